"""Calibration: closed-loop runs on development tasks, and what they say about the next task."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console
from scipy.optimize import minimize

from wm_agents.agents import WorldModelAgent
from wm_agents.agents.assess import BOUNDS, Situation, measured_options, situation_of
from wm_agents.datasets import default_policy, episode_seed
from wm_agents.datasets.episodes import rollout
from wm_agents.evaluation.environments import check_env_id, open_env, whole_number
from wm_agents.evaluation.grid import Grid, Runner, evaluation_cell
from wm_agents.evaluation.statistics import probability_scores
from wm_agents.evaluation.task_env import TaskEnv
from wm_agents.evaluation.tasks import DEVELOPMENT_SEED, Manifest, described, make_manifest
from wm_agents.models import AssessmentConfig, AssessmentHead
from wm_agents.models.heads.assessment import thumbnails
from wm_agents.models.modes import prediction_modes

OFFSETS = (25, 50, 100, 150)
"""Distances of development tasks, in environment steps, beside random goals; twice of them must fit in an episode."""
LEAST = 50
"""Fewest development tasks that say anything."""
SAME_TASKS = 10
"""Development tasks whose start is their goal."""
EPISODES, REFERENCES = 24, 512
"""Recorded episodes that references are taken from, and how many are kept."""
EVERY = 5
"""Environment steps between frames that are looked at."""
SHORTER = (2, 4, 8)
"""Parts of the step limit within which a task's outcome counts, too: one run tells them all."""
RIDGE, FOLDS = 1.0, 5
"""Weight of the penalty on squared coefficients, and parts of the tasks for cross-validation."""


@dataclass(frozen=True)
class Calibration:
    """What :func:`calibrate` found.

    Attributes:
        head: To be put among the agent's heads.
        predicted: Probabilities ``[M]`` of development tasks and budgets, each by a fit that had not seen its task.
        solved: bool ``[M]``, what became of them.
        measured: Numbers of ``tasks`` and ``rows``, and :func:`~wm_agents.evaluation.statistics.probability_scores`.
    """

    head: AssessmentHead
    predicted: np.ndarray
    solved: np.ndarray
    measured: dict[str, Any]


def calibrate(
    agent: WorldModelAgent,
    folder: str | Path,
    *,
    tasks: int = 400,
    seed: int = DEVELOPMENT_SEED,
    num_envs: int = 16,
    identity: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> Calibration:
    """Run an agent on development tasks of mixed distances, and fit when it succeeds.

    All tasks are played to the environment's own step limit, so one run tells what becomes of them within any shorter
    time. A quarter of the tasks have random goals at least; the others lie 25 to 150 steps apart in held-out episodes.

    Args:
        agent: To be measured, with its options; its other heads are used as they are.
        folder: Where finished runs are kept: the same call goes on after an interruption.
        tasks: Number of development tasks, at least 50.
        seed: First seed of the task sets, one for each distance; of development, never one of the report.
        num_envs: Environments that share a call.
        identity: What else the runs depend on, for their key: the checkpoint's hash.
        console: Shows progress.

    Raises:
        ValueError: Too few tasks, a seed of the report, no agent, or one without an environment.
        RuntimeError: A run failed.
    """
    if not isinstance(agent, WorldModelAgent):
        raise ValueError(f"calibrate an agent, such as wm_agents.load(name) returns, not {described(agent)}.")
    tasks, num_envs = whole_number("tasks", tasks, LEAST), whole_number("num_envs", num_envs, 1)
    seed = whole_number("seed", seed)
    if not DEVELOPMENT_SEED <= seed <= 7000 - len(OFFSETS) - 1:
        raise ValueError(f"calibrate on development tasks, seeds {DEVELOPMENT_SEED} to 6995, not {seed}.")
    if not agent.env_id:
        raise ValueError("the agent's file does not say which environment it is for: save it after training, with one.")
    limit = gym.spec(check_env_id(agent.env_id)).max_episode_steps or 300
    manifests = _manifests(agent.env_id, limit, tasks, seed)
    outcomes = _play(agent, manifests, Grid(folder), num_envs, dict(identity or {}), console)
    seen = {name: _seen(agent, manifest) for name, manifest in manifests.items()}
    any_goal = np.concatenate(seen["any"])
    head, frames = _references(agent, limit, seed, torch.from_numpy(any_goal[::2]))
    situations = [situation_of(agent, head, *images) for images in seen.values()]
    found = np.concatenate([frames, *(one.start for one in situations), *(one.goal for one in situations)])
    head.farthest.copy_(torch.from_numpy(found.max(axis=0)))
    return _fitted(agent, head, manifests, situations, outcomes, limit)


def _manifests(env_id: str, limit: int, tasks: int, seed: int) -> dict[str, Manifest]:
    """Development tasks by their distance, and some whose start is their goal."""
    near = [offset for offset in OFFSETS if 2 * offset <= limit]
    each = tasks // (len(near) + 2)
    found = {}
    for number, offset in enumerate(near):
        with contextlib.suppress(ValueError):  # no episode is so long, or leaves its start so far
            found[str(offset)] = make_manifest(env_id, tasks=each, offset=offset, budget=limit, seed=seed + number)
    rest, seed = tasks - each * len(found), seed + len(near)
    found["any"] = make_manifest(env_id, tasks=rest, offset="random", budget=limit, seed=seed)
    goals = found["any"].goals[:SAME_TASKS]
    found["same"] = dataclasses.replace(found["any"], starts=goals, sources=found["any"].sources[:0], goals=goals)
    return found


def _play(
    agent: WorldModelAgent,
    manifests: Mapping[str, Manifest],
    grid: Grid,
    num_envs: int,
    identity: Mapping[str, Any],
    console: Console | None,
) -> list[np.ndarray]:
    """Steps to success of all tasks, int64 ``[N]`` for each set; 0 where it failed."""
    identity = {**identity, "agent": agent.name, "options": measured_options(agent)}
    cells = [
        evaluation_cell(name, lambda: agent, manifest, identity, seed=0, num_envs=num_envs, known_floors={})
        for name, manifest in manifests.items()
    ]
    with Runner(console=console) as runner:
        failed = grid.run(cells, runner, "development tasks")
    if failed:
        raise RuntimeError(f"{len(failed)} runs failed: {next(iter(failed.items()))}")
    found = [grid.read(cell) for cell in cells]
    return [np.array([step or 0 for step in one["outcomes"]["moderate"]]) for one in found if one is not None]


def _references(
    agent: WorldModelAgent, limit: int, seed: int, tasks: torch.Tensor
) -> tuple[AssessmentHead, np.ndarray]:
    """A head with recorded frames and images of ``tasks``; novelty and strangeness ``[n, 2]`` of other episodes."""
    model = agent.world_model
    env = open_env(agent.env_id, obs_type="pixels", image_size=model.spec.image_size)
    policy, steps = default_policy(agent.env_id), min(limit, 100)
    episodes = (rollout(env, policy, steps, episode_seed("evaluate", seed + 1000, i)) for i in range(EPISODES))
    images = [torch.from_numpy(episode.pixels[::EVERY]) for episode in episodes]  # type: ignore[index]
    env.close()
    kept, others = (torch.cat(part) for part in (images[: EPISODES * 3 // 4], images[EPISODES * 3 // 4 :]))
    kept = kept[torch.randperm(len(kept), generator=torch.Generator().manual_seed(0))[:REFERENCES]]
    pictures = thumbnails(torch.cat([kept, tasks[:REFERENCES]])).to(torch.uint8)
    head = AssessmentHead(
        AssessmentConfig(latent_size=model.spec.feature_size, references=len(kept), pictures=len(pictures))
    )
    head.stamp(model)
    head.pictures.copy_(pictures)
    head.latents.copy_(_encoded(agent, kept).half().float())
    novelty = head.novelty(_encoded(agent, others))
    head.scale.copy_(novelty.median().clamp(min=1e-3))
    found = torch.stack([novelty / head.scale, head.strangeness(others)], dim=1).double().numpy()
    return head.to(agent.device), found


def _encoded(agent: WorldModelAgent, images: torch.Tensor) -> torch.Tensor:
    model = agent.world_model
    with prediction_modes(agent.device):
        parts = [model.features(model.encode(part.to(agent.device))) for part in images.split(256)]
        return torch.cat(parts).cpu()


def _seen(agent: WorldModelAgent, manifest: Manifest) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 ``[N, H, W, 3]`` of the starts and of the goals of a set of tasks."""
    env = TaskEnv(manifest, image_size=agent.world_model.spec.image_size)
    seen = [env.reset()[0] for _ in range(len(manifest))]
    env.close()
    return np.stack([one["pixels"] for one in seen]), np.stack([one["goal_pixels"] for one in seen])


def _fitted(
    agent: WorldModelAgent,
    references: AssessmentHead,
    manifests: Mapping[str, Manifest],
    situations: list[Situation],
    outcomes: list[np.ndarray],
    limit: int,
) -> Calibration:
    """Fit the regression on all tasks within several times, and cross-validate it by task."""
    features, solved, task = [], [], []
    for number, (manifest, situation, steps) in enumerate(zip(manifests.values(), situations, outcomes, strict=True)):
        usual = limit if manifest.offset == "random" else 2 * manifest.offset
        for budget in sorted({usual, limit, *(max(1, limit // part) for part in SHORTER)}):
            features.append(situation.features(budget))
            solved.append((steps > 0) & (steps <= budget))
            task += [(number, index) for index in range(len(steps))]
    x, y = np.concatenate(features), np.concatenate(solved)
    predicted = _cross_validated(x, y, np.unique(task, axis=0, return_inverse=True)[1].ravel())
    head = _joined(agent, references, limit)
    head.weights[-1] = torch.from_numpy(logistic_regression(x, y))
    guess, took = np.concatenate([situation.steps for situation in situations]), np.concatenate(outcomes)
    won = (took > 0) & ~np.concatenate([situation.same for situation in situations])
    head.pace[-1] = torch.tensor(_pace(guess[won], took[won]))
    head.longest[-1] = float(guess[won].max()) if won.any() else 0.0
    measured = {"tasks": len(took), "rows": len(y), **probability_scores(predicted, y)}
    return Calibration(head.cpu().eval().requires_grad_(False), predicted, y, measured)


def _joined(agent: WorldModelAgent, references: AssessmentHead, limit: int) -> AssessmentHead:
    """A head with these references, a row for each agent that the file knows already, and a last one for this agent."""
    before = agent.heads.get("assessment")
    others = [name for name in before.config.agents if name != agent.name] if before is not None else []
    rows = [before.config.agents.index(name) for name in others] if before is not None else []
    options = [before.config.options[row] for row in rows] if before is not None else []
    head = AssessmentHead(
        dataclasses.replace(
            references.config,
            agents=(*others, agent.name),
            options=(*options, json.dumps(measured_options(agent), sort_keys=True)),
            limit=limit,
        )
    )
    own = ("weights", "pace", "longest")
    shared = {name: value for name, value in references.state_dict().items() if name not in own}
    head.load_state_dict({**head.state_dict(), **shared})
    for name in own if rows else ():
        getattr(head, name)[:-1] = getattr(before, name)[rows].cpu()
    return head


def logistic_regression(x: np.ndarray, y: np.ndarray, ridge: float = RIDGE) -> np.ndarray:
    """Return the coefficients ``[K + 1]``, the constant last, of a logistic regression with an L2 penalty.

    Args:
        x: ``[M, K]``.
        y: bool ``[M]``.
        ridge: Weight of half the sum of squared coefficients of standardised columns, the constant's left out.
    """
    mean, std = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-3)
    x = (x - mean) / std
    rows, sign = np.concatenate([x, np.ones((len(x), 1))], axis=1), np.where(y, 1.0, -1.0)
    penalty = np.append(np.full(x.shape[1], ridge), 0.01)  # where all tasks ended alike, the constant stays finite

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margins = sign * (rows @ weights)
        slope = -sign / (1 + np.exp(np.clip(margins, -30, 30)))
        value = np.logaddexp(0, -margins).sum() + 0.5 * (penalty * weights**2).sum()
        return float(value), rows.T @ slope + penalty * weights

    found = minimize(loss, np.zeros(rows.shape[1]), jac=True, method="L-BFGS-B").x
    slopes = found[:-1] / std
    return np.append(slopes, found[-1] - mean @ slopes)


def _cross_validated(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Probabilities ``[M]``, each by a fit without its task."""
    order = np.random.default_rng(0).permutation(np.unique(groups))
    predicted = np.zeros(len(y))
    for part in np.array_split(order, FOLDS):
        held = np.isin(groups, part)
        weights = logistic_regression(x[~held], y[~held])
        predicted[held] = 1 / (1 + np.exp(-(x[held] @ weights[:-1] + weights[-1])))
    return np.clip(predicted, *BOUNDS)


def _pace(estimated: np.ndarray, took: np.ndarray) -> tuple[float, float]:
    """Constant and slope of the log of the steps taken over the log of those estimated; the mean where few are."""
    if len(took) < 10 or np.ptp(np.log(estimated)) < 0.1:
        return (float(np.log(took / estimated).mean()) if len(took) else 0.0, 1.0)
    slope, constant = np.polyfit(np.log(estimated), np.log(took), 1)
    return float(constant), float(slope)
