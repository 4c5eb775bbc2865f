"""Every planner on the same world model and the same tasks, in one run."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console

from wm_agents import evaluation, planning
from wm_agents.agents.loading import load, shipped
from wm_agents.agents.mpc import MPC
from wm_agents.checkpoint import versions
from wm_agents.evaluation.bench.rates import batch_ratio, in_turns, plan_rate, spread
from wm_agents.evaluation.bench.scaling import scaling
from wm_agents.evaluation.bench.tables import bench_figure, print_bench
from wm_agents.evaluation.environments import whole_number
from wm_agents.evaluation.files import check_output, file_sha256, write_json
from wm_agents.evaluation.grid import Cell, Grid, Runner
from wm_agents.evaluation.tasks import Manifest, Offset
from wm_agents.recipes import RECIPES
from wm_agents.registry import did_you_mean

FILE, FIGURE = "planners.json", "planners.png"
SCALED = ("cem", "icem", "mppi")
PAIRS = 16
"""Start and goal pairs that the scaling curves are measured on."""

Content = dict[str, Any]


def bench_planners(
    agent: str | Path,
    *,
    out: str | Path,
    tasks: int = 100,
    offset: Offset = 100,
    budget: int | None = None,
    planners: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    envs: Sequence[int] = (1, 4, 16, 64),
    samples: Sequence[int] = (30, 100, 300, 1000),
    horizons: Sequence[int] = (2, 5, 10, 16),
    num_envs: int = 16,
    rounds: int = 5,
    seed: int = 0,
    quick: bool = False,
    device: str = "auto",
    console: Console | None = None,
) -> Content:
    """Run every planner on one world model; write ``planners.json`` and ``planners.png``.

    It has four parts. Cells are written when they are done, so that an interrupted run continues where it stopped:

    - ``success``: each planner tries the same held-out tasks;
    - ``timing``: milliseconds per plan and environment, if 1, 4, ... environments share a call. Planners take turns,
      and each plan follows an earlier one, as in an episode;
    - ``scaling``: cost reached and time, over samples and over the horizon, for CEM, iCEM and MPPI, on a fixed batch
      of starts and goals and with the shipped options otherwise;
    - ``rates``: :func:`wm_agents.evaluation.bench.plan_rate` and :func:`wm_agents.evaluation.bench.batch_ratio`.

    Args:
        agent: A shipped task ("pointmaze-umaze"), or the path of a checkpoint.
        out: Directory of the results.
        tasks: Held-out tasks for each planner.
        offset: Environment steps from start to goal, or "random".
        budget: Environment steps allowed; by default twice the offset, or the task's usual limit.
        planners: Names; all of :data:`wm_agents.planning.PLANNERS` by default.
        options: Options for all the agents, over the stored ones, for example ``{"objective": "summed"}``.
        envs: Environments that share a call, for ``timing``.
        samples: Numbers of samples, for ``scaling``.
        horizons: Horizons in blocks, for ``scaling``.
        num_envs: Environments that share a call while tasks are tried.
        rounds: Repetitions of each timing.
        seed: Seed of the set of tasks.
        quick: Few tasks, small searches and one round. This only shows that all parts work; its numbers mean nothing.
        device: "auto", "cpu" or "cuda".
        console: Shows progress and prints the table; None is silent.

    Returns:
        The content of the JSON file.

    Raises:
        ValueError: An unknown agent, planner or option, a number out of range, or ``out`` holds a benchmark with
            other settings.
        CheckpointError: The checkpoint is missing or damaged.
    """
    sizes: Content = {
        "tasks": whole_number("tasks", tasks),
        "envs": _sizes("envs", envs),
        "samples": _sizes("samples", samples),
        "horizons": _sizes("horizons", horizons),
        "num_envs": whole_number("num_envs", num_envs, 1),
        "rounds": whole_number("rounds", rounds, 1),
    }
    if quick:
        sizes |= {"tasks": min(sizes["tasks"], 2), "rounds": 1}
        sizes |= {name: sizes[name][:2] for name in ("envs", "samples", "horizons")}
    agents = {name: _agent(agent, name, options or {}, device) for name in _names(planners)}
    manifest = _manifest(next(iter(agents.values())).env_id, sizes["tasks"], offset, budget, seed)
    check_output(out, folder=True)
    settings: Content = {
        "agent": str(agent),
        "checkpoint_sha256": _digest(agent),
        "env_id": manifest.env_id,
        **sizes,
        "offset": manifest.offset,
        "budget": manifest.budget,
        "manifest_sha256": manifest.sha256,
        "planners": list(agents),
        "options": {name: player.options() for name, player in agents.items()},
        "seed": manifest.seed,
        "quick": quick,
    }
    settings = json.loads(json.dumps(settings))
    content = _run(_cells(agents, manifest, settings), Grid(Path(out) / "cells"), console)
    write_json(Path(out) / FILE, content)
    evaluation.save_figure(bench_figure(content), Path(out) / FIGURE)
    if console is not None:
        print_bench(content, console)
    return content


def _names(planners: Sequence[str] | None) -> list[str]:
    """Return the names of the planners, all by default."""
    names = sorted(planning.PLANNERS) if planners is None else list(dict.fromkeys(planners))
    if not names:
        raise ValueError("a benchmark needs at least one planner; leave planners out for all of them.")
    for name in names:
        planning.PLANNERS.get(name)
    return names


def _sizes(name: str, values: Sequence[int]) -> list[int]:
    """Return sizes as Python numbers."""
    try:
        found = [whole_number(name, value, 1) for value in values]
    except ValueError:
        found = []
    if not found:
        raise ValueError(f"{name} must be one number or more, each at least 1, not {list(values)}.")
    return found


def _cells(agents: Mapping[str, MPC], manifest: Manifest, settings: Content) -> dict[tuple[str, ...], Cell]:
    """Return the cells by their place in the result: the success of each planner, then the other parts."""
    measures: dict[tuple[str, ...], Callable[[], Content]] = {
        ("success", name): functools.partial(_success, player, name, manifest, settings["num_envs"], settings["seed"])
        for name, player in agents.items()
    }
    rounds = settings["rounds"]
    sizes = settings["samples"], settings["horizons"]
    measures["timing",] = functools.partial(_timing, agents, manifest, settings["envs"], rounds)
    measures["scaling",] = functools.partial(_scaling, agents, manifest, *sizes, rounds)
    measures["rates",] = functools.partial(_rates, next(iter(agents.values())).device, rounds, settings["quick"])
    return {
        place: Cell("_".join(place), settings, functools.partial(_measured, measure))
        for place, measure in measures.items()
    }


def _measured(measure: Callable[[], Content]) -> Content:
    return {"result": measure(), "threads": torch.get_num_threads(), "versions": versions()}


def _run(cells: Mapping[tuple[str, ...], Cell], grid: Grid, console: Console | None) -> Content:
    """Measure what is missing and return everything."""
    if grid.replaced(cells.values()):
        raise ValueError(f"{grid.folder.parent} holds a benchmark with other settings: give another out, or remove it.")
    failed = grid.run(list(cells.values()), Runner(console=console), "bench")
    if failed:
        raise RuntimeError(f"{len(failed)} parts failed: {next(iter(failed.items()))}")
    found = {place: grid.read(cell) or {} for place, cell in cells.items()}
    timing = found["timing",]
    content: Content = {"settings": timing["key"], "threads": timing["threads"], "versions": timing["versions"]}
    for (part, *name), one in found.items():
        if name:
            content.setdefault(part, {})[name[0]] = one["result"]
        else:
            content[part] = one["result"]
    return content


def _agent(agent: str | Path, planner: str, options: Mapping[str, Any], device: str) -> MPC:
    if (file := _file(agent)) is not None:
        return load(file, agent=planner, device=device, **options)  # type: ignore[return-value]
    if str(agent) not in shipped():
        raise ValueError(did_you_mean("task", str(agent), shipped()) + " Or give the path of a checkpoint.")
    return load(f"{agent}/{planner}", device=device, **options)  # type: ignore[return-value]


def _file(agent: str | Path) -> Path | None:
    """The checkpoint's path, with or without its suffix; None for a shipped one."""
    return next((path for path in (Path(agent), Path(f"{agent}.safetensors")) if path.is_file()), None)


def _digest(agent: str | Path) -> str:
    file = _file(agent)
    return shipped()[str(agent)] if file is None else file_sha256(file)


def _manifest(env_id: str, tasks: int, offset: Offset, budget: int | None, seed: int) -> Manifest:
    name = evaluation.check_env_id(env_id)
    if budget is None:
        budget = (gym.spec(name).max_episode_steps or 300) if offset == "random" else 2 * offset
    policies = {recipe.env_id: recipe.policy for recipe in RECIPES.values()}
    return evaluation.make_manifest(
        env_id, tasks=tasks, offset=offset, budget=budget, seed=seed, policy=policies.get(name)
    )


class _Recorder:
    """An agent that measures how much its actions change from step to step.

    The previous actions travel in the state, whose rows the evaluator keeps in step with the environments.
    """

    def __init__(self, agent: MPC) -> None:
        self.agent = agent
        self.changes: list[np.ndarray] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.agent, name)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        inner, previous = (None, None) if state is None else (state[:-1], state[-1])
        actions, inner = self.agent.predict(observation, inner, episode_start, deterministic)
        if previous is not None:
            self.changes.append(np.abs(actions - previous)[~episode_start].ravel())
        return actions, (*inner, actions)


def _success(agent: MPC, name: str, manifest: Manifest, num_envs: int, seed: int) -> Content:
    recorder = _Recorder(agent)
    result = evaluation.evaluate(recorder, manifest, num_envs=num_envs, seed=seed, progress=False, name=name).to_dict()
    kept = (
        "success_rate",
        "ci95",
        "floors",
        "steps_to_success",
        "strict",
        "ms_per_plan",
        "evaluations_per_plan",
        "plans",
        "outcomes",
    )
    return {**{key: result[key] for key in kept}, "action_change": float(np.concatenate(recorder.changes).mean())}


def _timing(agents: Mapping[str, MPC], manifest: Manifest, envs: Sequence[int], rounds: int) -> Content:
    """Milliseconds for each environment by planner and environments in the call."""
    observations = _observations(next(iter(agents.values())), manifest, max(envs))
    calls: dict[tuple[str, int], Callable[[], float]] = {}
    for name, agent in agents.items():
        for count in envs:
            batch = {key: images[:count] for key, images in observations.items()}
            state = None
            for _ in range(agent.settings.receding_horizon * agent.world_model.spec.action_block):
                _, state = agent.predict(batch, state)
            calls[name, count] = functools.partial(_plan_ms, agent, batch, state)
    times = in_turns(calls, rounds)
    return {name: {str(count): spread(times[name, count]) for count in envs} for name in agents}


def _plan_ms(agent: MPC, batch: Mapping[str, np.ndarray], state: Any) -> float:
    agent.predict(dict(batch), state)
    record = agent.last_decision
    assert record is not None
    return record.plan_ms / record.plans


def _observations(agent: MPC, manifest: Manifest, count: int) -> dict[str, np.ndarray]:
    """Images of the first ``count`` tasks' starts and goals, around again where there are fewer."""
    env = gym.make(manifest.env_id, obs_type="pixels", image_size=agent.world_model.spec.image_size)
    found = []
    for task in range(min(count, len(manifest))):
        options = {"state": manifest.starts[task].copy(), "goal_state": manifest.goals[task].copy()}
        found.append(env.reset(seed=task, options=options)[0])
    env.close()
    rows = np.arange(count) % len(found)
    return {key: np.stack([observation[key] for observation in found])[rows] for key in found[0]}


def _scaling(
    agents: Mapping[str, MPC], manifest: Manifest, samples: Sequence[int], horizons: Sequence[int], rounds: int
) -> Content:
    images = _observations(next(iter(agents.values())), manifest, PAIRS)
    return scaling({name: agents[name] for name in SCALED if name in agents}, images, samples, horizons, rounds)


def _rates(device: torch.device, rounds: int, quick: bool) -> Content:
    samples, iterations = (30, 2) if quick else (300, 30)
    return {
        "plan": plan_rate(samples=samples, iterations=iterations, rounds=min(rounds, 3), device=device),
        "batch": batch_ratio(iterations=min(iterations, 10), rounds=rounds, device=device),
    }
