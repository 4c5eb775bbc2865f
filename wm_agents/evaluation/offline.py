"""Scores of an agent on recorded episodes alone, where there is no environment to try it in.

Three questions, each at several numbers of action blocks ahead, on episodes that training has held out:

- Does the world model predict? The squared error of imagined latents, next to that of "nothing moves", and of the mean
  latent, which is hard to beat far ahead.
- Can it tell where actions lead? How often the latent that it imagines is nearer to the frame that followed than to
  those that followed elsewhere.
- Does the agent act as recorded? The squared error of its action towards a later frame, next to that of the mean action
  and of repeating the last one. Where many actions lead to a goal, a good agent has a large one, too.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium import spaces
from rich.table import Table

from wm_agents.configs import bare_id, whole_number
from wm_agents.evaluation.files import write_json
from wm_agents.models.heads import evaluating
from wm_agents.training.device import own_modes
from wm_agents.training.latents import check_dataset_fits, context

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset
    from wm_agents.models import WorldModel

BLOCKS = (1, 2, 5, 10)
"""How many action blocks ahead is asked for."""
CANDIDATES = 100
"""Frames among which the true one must be found."""
_BATCH = 64  # pairs whose frames are in memory at a time


@dataclass(frozen=True)
class OfflineScore:
    """Scores so many blocks ahead. Errors of actions are in units of their variance in training: the mean has about 1.

    Attributes:
        blocks: How many action blocks ahead.
        steps: The same in environment steps.
        samples: Pairs of frames that were drawn.
        prediction: Mean squared error of the imagined latent.
        nothing_moves: That of the latent of now.
        mean_frame: That of the mean latent of the frames that followed.
        found: Share of the imagined latents that are nearest to the frame which followed, among ``candidates``.
        candidates: Frames to choose from; by chance one in so many is found.
        action: Mean squared error of the agent's action towards the frame that followed; None for actions that are no
            numbers.
        mean_action: That of the mean action of the training data.
        last_action: That of the recorded action before.
    """

    blocks: int
    steps: int
    samples: int
    prediction: float
    nothing_moves: float
    mean_frame: float
    found: float
    candidates: int
    action: float | None
    mean_action: float | None
    last_action: float | None

    @property
    def skill(self) -> float:
        """1 for a perfect prediction, 0 for one as good as the better of "nothing moves" and the mean."""
        return 1 - self.prediction / max(min(self.nothing_moves, self.mean_frame), 1e-12)


@dataclass(frozen=True)
class OfflineScores:
    """What :func:`offline_scores` found.

    Attributes:
        agent: Name of the agent.
        dataset: Name of the dataset.
        episodes: Episodes that were scored.
        rows: One for each number of blocks that fits into an episode.
    """

    agent: str
    dataset: str
    episodes: int
    rows: tuple[OfflineScore, ...]

    @property
    def verdict(self) -> list[str]:
        """The scores in words, with what to try where they are bad."""
        good = list(itertools.takewhile(lambda row: row.skill > 0.1, self.rows))
        if not good:
            told = (
                'The world model predicts no better than "nothing moves" or the mean frame. Train it longer or on more '
                "data; make the action block longer where little moves in one; check that each action is stored with "
                "the frame at which it was taken."
            )
        elif len(good) < len(self.rows):
            told = f"The world model predicts {good[-1].steps} steps ahead; further, it is no better than a mean frame."
        else:
            told = f"The world model predicts at least {good[-1].steps} steps ahead, as far as was asked."
        first = self.rows[0]
        chance = 1 / first.candidates
        clear = first.found > 2 * chance + 2 * np.sqrt(chance / first.samples)
        found = f"It finds the frame that follows {first.found:.0%} of the time; by chance {chance:.0%}"
        verdict = [told, f"{found}." if clear else f"{found}: it cannot tell where actions lead."]
        if first.action is not None and first.mean_action is not None and first.last_action is not None:
            if first.action < min(first.mean_action, first.last_action):
                verdict.append("For near goals, the agent's actions are closer to those recorded than both baselines.")
            elif first.action < first.mean_action:
                verdict.append(
                    "For near goals, the agent's actions are closer to those recorded than the mean action is, but "
                    "repeating the last action is closer still: the recorded actions change slowly."
                )
            else:
                verdict.append(
                    "For near goals, the agent's actions are no closer to those recorded than the mean action is: "
                    "train its head longer, on more data, or on a world model that predicts."
                )
        return verdict

    def to_dict(self) -> dict[str, Any]:
        """All numbers and the verdict, as JSON types."""
        return {**dataclasses.asdict(self), "verdict": self.verdict}

    def save(self, path: str | Path) -> None:
        """Write them as JSON."""
        write_json(path, self.to_dict())

    def table(self) -> Table:
        """Return them as a table."""
        table = Table(title=f"{self.agent} on {self.episodes} episodes of {self.dataset}")
        for column in (
            "steps",
            "prediction",
            "nothing moves",
            "mean frame",
            "found",
            "action",
            "mean action",
            "last action",
        ):
            table.add_column(column, justify="right")
        for row in self.rows:
            actions = (row.action, row.mean_action, row.last_action)
            table.add_row(
                str(row.steps),
                *(f"{value:.3g}" for value in (row.prediction, row.nothing_moves, row.mean_frame)),
                f"{row.found:.0%}",
                *("-" if value is None else f"{value:.3g}" for value in actions),
            )
        return table


def offline_scores(
    agent: Any, dataset: TrajectoryDataset, *, samples: int = 300, validation_fraction: float = 0.1, seed: int = 0
) -> OfflineScores:
    """Score an agent on recorded episodes; no environment is needed.

    Args:
        agent: Any agent of this library.
        dataset: Episodes of the environment that it was trained for.
        samples: Pairs of frames for each number of blocks. Agents that search take seconds for hundreds.
        validation_fraction: Share of the episodes that training has held out, which are the ones to score; the same as
            in training finds the same ones. 0 scores all: for data that no training has seen.
        seed: Which pairs.

    Raises:
        ValueError: The dataset does not fit the agent, or no episode is as long as two frames with an action block
            between them.
    """
    world_model = world_model_of(agent)
    check_dataset_fits(world_model, dataset)
    check_same_task(agent, dataset)
    samples, seed = whole_number("samples", samples, 1), whole_number("seed", seed, 0)
    data = dataset.split(validation_fraction)[1] if validation_fraction else dataset
    rows = []
    for blocks in BLOCKS:
        past = _past(agent, data, blocks)
        if past is not None:
            rows.append(_score(agent, data, blocks, past, samples, np.random.default_rng([seed, blocks])))
    if not rows:
        needed = world_model.spec.action_block + 2
        raise ValueError(
            f"the longest of the {len(data)} episodes of {dataset.name} to score has {data.lengths.max()} actions; "
            f"{needed} are needed: score other episodes (validation_fraction), or train with shorter action blocks."
        )
    return OfflineScores(agent.name, dataset.name, len(data), tuple(rows))


def world_model_of(agent: Any) -> WorldModel:
    """Return an agent's world model; ``ValueError`` if it has none."""
    if not hasattr(agent, "world_model"):
        raise ValueError(f"{type(agent).__name__} is no agent with a world model: give one, such as MPC(world_model).")
    return agent.world_model  # type: ignore[no-any-return]


def check_same_task(agent: Any, dataset: TrajectoryDataset) -> None:
    """Raise ``ValueError`` if the agent is known to be for another environment than the episodes are of."""
    own, other = (bare_id(env_id) for env_id in (getattr(agent, "env_id", ""), dataset.env_id))
    if own and other and own != other:
        raise ValueError(
            f"{dataset.name} has episodes of {other}, the agent was trained for {own}: take data of its task."
        )


def _past(agent: Any, data: TrajectoryDataset, blocks: int) -> int | None:
    """Blocks that the world model is shown before it imagines, as many as fit; None where not even one step does.

    They fit where more than one moment is left: the mean frame of a single one would be that frame itself.
    """
    block = agent.world_model.spec.action_block
    room = data.lengths - blocks * block
    for past in range(context(agent.world_model) - 1, -1, -1):
        if np.maximum(room - max(past * block, 1) + 1, 0).sum() > 1:
            return past
    return None


def _score(
    agent: Any, data: TrajectoryDataset, blocks: int, past: int, samples: int, rng: np.random.Generator
) -> OfflineScore:
    world_model, block = agent.world_model, agent.world_model.spec.action_block
    before = max(past * block, 1)  # steps, one at least: "last action" needs it
    now = data.segments(samples, before + blocks * block, rng) + before
    shown, true, imagined, actions = [], [], [], []
    with own_modes(world_model.action_mean.device), torch.no_grad(), evaluating(world_model):
        for part in np.array_split(now, -(-samples // _BATCH)):
            z, future, predicted = _imagine(world_model, data, part, blocks, past)
            shown.append(z)
            true.append(future)
            imagined.append(predicted)
    if isinstance(agent.action_space, spaces.Box):
        for part in np.array_split(now, -(-samples // _BATCH)):
            actions.append(_act(agent, data, part, blocks * block))
    z, future, predicted = (np.concatenate(parts) for parts in (shown, true, imagined))
    errors = _action_errors(world_model, data, now, np.concatenate(actions)) if actions else (None, None, None)
    return OfflineScore(
        blocks,
        blocks * block,
        samples,
        float(np.square(predicted - future).mean()),
        float(np.square(z - future).mean()),
        float(future.var(axis=0).mean()),
        *_found(predicted, future),
        *errors,
    )


def _imagine(
    world_model: Any, data: TrajectoryDataset, now: np.ndarray, blocks: int, past: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features ``[N, F]`` of the frames ``now``, of those ``blocks`` later, and what is imagined of the latter."""
    block, device = world_model.spec.action_block, world_model.action_mean.device
    index = now[:, None] + block * np.append(np.arange(-past, 1), blocks)
    latents = world_model.encode(torch.from_numpy(np.ascontiguousarray(data.frames_at(index))).to(device))
    steps = now[:, None] + np.arange(-past * block, blocks * block)
    taken = torch.from_numpy(data.actions[steps].reshape(len(now), past + blocks, -1)).to(device)
    taken = world_model.normalize(taken)
    state = world_model.remember(latents[:, :-1], taken[:, :past])
    predicted = world_model.imagine(state, taken[:, None, past:])[:, 0, -1]
    features = (world_model.features(part) for part in (latents[:, -2], latents[:, -1], predicted))
    z, future, imagined = (part.float().cpu().numpy() for part in features)
    return z, future, imagined


def _act(agent: Any, data: TrajectoryDataset, now: np.ndarray, steps: int) -> np.ndarray:
    """The agent's actions ``[N, A]`` at the frames ``now``, where the goal is the frame ``steps`` later.

    An agent that looks back sees the frames before, as far as it looks and the episode goes.
    """
    head = agent.heads.get("gc-idm") if agent.name == "gc-idm" else None
    lag = 0 if head is None else head.config.lag
    goals = data.frames_at(now + steps)
    first = data.starts[np.searchsorted(data.starts, now, side="right") - 1]
    state = None
    for back in range(lag, -1, -1):
        frame = now - back
        action, state = agent.predict(
            {"pixels": data.frames_at(np.maximum(frame, first)), "goal_pixels": goals},
            state,
            episode_start=frame <= first,
        )
    return np.asarray(action)


def _action_errors(
    world_model: Any, data: TrajectoryDataset, now: np.ndarray, actions: np.ndarray
) -> tuple[float, float, float]:
    """Squared errors, in units of the variance: of the actions, of the mean, of the action before."""
    mean, std = (getattr(world_model, f"action_{what}").cpu().numpy() for what in ("mean", "std"))
    taken = data.actions[now]
    guesses = (actions, np.broadcast_to(mean, taken.shape), data.actions[now - 1])
    first, second, third = (float(np.square((guess - taken) / std).mean()) for guess in guesses)
    return first, second, third


def _found(predicted: np.ndarray, future: np.ndarray) -> tuple[float, int]:
    """How often the true frame is the nearest among up to ``CANDIDATES`` true ones, and among how many."""
    candidates = min(CANDIDATES, len(future))
    hits = []
    for start in range(0, len(future) - candidates + 1, candidates):
        part = slice(start, start + candidates)
        distance = np.square(predicted[part, None] - future[None, part]).sum(-1)
        nearest = distance == distance.min(axis=1, keepdims=True)
        hits.append(np.diag(nearest) / nearest.sum(axis=1))  # of equally near ones, one is guessed
    return float(np.concatenate(hits).mean()), candidates
