"""Subcommands around data: doctor, list, collect, import."""

from __future__ import annotations

import importlib
import sys
from typing import Any, Literal

import tyro
from rich.table import Column, Table

from wm_agents.cli.common import app, console, full_id, rich_escape


@app.command
def doctor() -> None:
    """Check rendering, versions and threads, and say how to fix problems."""
    from wm_agents.doctor import diagnose

    if not diagnose(console):
        raise SystemExit(1)


@app.command
def list_names(
    what: tyro.conf.Positional[
        Literal["agents", "envs", "datasets", "planners", "objectives", "policies", "training-objectives"]
    ],
) -> None:
    """List agents, environments, datasets, planners, objectives, policies or training objectives.

    Args:
        what: What to list: agents (shipped), envs, datasets (local), planners, objectives (of planners), policies (of
            exploration), or training-objectives (of world models).
    """
    from wm_agents import datasets, list_checkpoints
    from wm_agents.evaluation import print_table
    from wm_agents.planning import OBJECTIVES, PLANNERS

    if what == "envs":
        print_table(_environments(), console)
        return
    if what == "training-objectives":
        print_table(_training_objectives(), console)
        return
    if what in ("planners", "objectives"):
        table = Table(Column("name", no_wrap=True), "what it does")
        registry = PLANNERS if what == "planners" else OBJECTIVES
        for name in registry:
            table.add_row(name, rich_escape((registry.get(name).__doc__ or "").splitlines()[0]))
        if what == "objectives":  # a network of the checkpoint, so no entry of the registry
            table.add_row("temporal-distance", "Learned number of steps to the goal, averaged over the horizon.")
        print_table(table, console)
        return
    names: dict[str, Any] = {
        "agents": list_checkpoints,
        "datasets": datasets.list_datasets,
        "policies": lambda: datasets.POLICIES,
    }
    for name in names[what]():
        console.print(name, highlight=False, soft_wrap=True)


def _training_objectives() -> Table:
    """Return the table of the training objectives: loss terms and weights."""
    from wm_agents.losses import TRAINING_OBJECTIVES, split_options

    table = Table(Column("name", no_wrap=True), "loss terms and their weights")
    for name in TRAINING_OBJECTIVES:
        terms = split_options(TRAINING_OBJECTIVES.get(name))
        table.add_row(name, ", ".join(f"{term} {weight}" for term, (weight, _) in terms.items()))
    return table


def _environments() -> Table:
    """Return the table of the goal environments: ours, and those that imported modules registered."""
    import gymnasium as gym

    table = Table(Column("id", no_wrap=True), "state", "action", "budget", "success")
    for env_id in sorted(name for name in gym.registry if name.startswith("wm/") or _is_goal_task(gym.registry[name])):
        try:
            env: Any = gym.make(env_id, obs_type="state")
        except ImportError as error:
            table.add_row(env_id, "", "", "", rich_escape(str(error)), style="dim")
            continue
        tests = "\n".join(f"{mode}: {test}" for mode, test in env.unwrapped.success_tests.items())
        action = f"{env.action_space.shape[0]} in [{env.action_space.low[0]:g}, {env.action_space.high[0]:g}]"
        size = env.observation_space["observation"].shape[0]
        table.add_row(env_id, str(size), rich_escape(action), str(env.spec.max_episode_steps), tests)
        env.close()
    return table


def _is_goal_task(spec: Any) -> bool:
    """Tell whether an environment is a goal environment, without importing other packages."""
    entry = spec.entry_point
    if isinstance(entry, str):
        module, _, attribute = entry.partition(":")
        if module.startswith("wm_agents."):
            importlib.import_module(module)
        entry = getattr(sys.modules.get(module), attribute, None)
    return hasattr(entry, "successes")


@app.command
def collect(
    env_id: tyro.conf.Positional[str],
    policy: str | None = None,
    episodes: int = 120,
    steps: int = 300,
    seed: int = 0,
    name: str | None = None,
    image_size: int = 64,
    workers: int | None = None,
    overwrite: bool = False,
) -> None:
    """Record episodes without rewards into a Minari dataset. The same command continues an interrupted recording.

    Args:
        env_id: Gymnasium id or task name, for example wm/PointMaze-UMaze-v0 or pointmaze-umaze.
        policy: Exploration policy; by default the task's own. "wm-agents list policies" prints all.
        episodes: Number of episodes.
        steps: Environment steps of each episode.
        seed: Seed of starts, goals and noise.
        name: Minari id of the new dataset; by default wm/<task>/<policy>-v0.
        image_size: Height and width in pixels.
        workers: Number of processes; by default one per core, and one for "curious".
        overwrite: Replace a dataset of that name.
    """
    from wm_agents import datasets

    dataset = datasets.collect(
        full_id(env_id),
        policy=policy,
        episodes=episodes,
        steps=steps,
        seed=seed,
        name=name,
        image_size=image_size,
        workers=workers,
        overwrite=overwrite,
    )
    console.print(f"{dataset.name}: {len(dataset)} episodes, {dataset.frames:,} frames", highlight=False)


@app.command
def import_dataset(
    source: tyro.conf.Positional[str],
    format: str = "auto",
    env_id: str | None = None,
    name: str | None = None,
    frames: Literal["auto", "stored", "rendered"] = "auto",
    pixels: str | None = None,
    image_size: int = 64,
    resize: Literal["stretch", "crop", "pad"] = "stretch",
    episodes: int | None = None,
    action_scale: float | None = None,
    choices: tuple[int, ...] | None = None,
    skip_invalid: bool = False,
    overwrite: bool = False,
) -> None:
    """Import data from elsewhere: videos, LeRobot, robomimic, OGBench, LeWM, or another Minari dataset.

    Args:
        source: A file, a folder, or the id of a local Minari dataset.
        format: videos, lerobot, robomimic-hdf5, ogbench-npz, lewm-hdf5, minari or d4rl-pointmaze; detected by default.
        env_id: Gymnasium id or name of the data's task; without it, frames and actions stay as they are.
        name: Minari id of the new dataset; by default wm/<task>/<file>-v0.
        frames: Use the stored frames, or let the task render them from states; by default stored, if there are any.
        pixels: Camera or key of the images, if there are several.
        image_size: Height and width in pixels.
        resize: How other images become square: stretch the whole image, crop its centre, or add black bars.
        episodes: Import only this many episodes, from the first.
        action_scale: Factor for all actions; by default that of the format.
        choices: Number of choices of discrete actions; several numbers if an action has several parts.
        skip_invalid: Leave out invalid episodes instead of failing.
        overwrite: Replace a dataset of that name.
    """
    from wm_agents import datasets

    dataset = datasets.import_dataset(
        source,
        format=format,
        env_id=full_id(env_id) if env_id else None,
        name=name,
        frames=frames,
        pixels=pixels,
        image_size=image_size,
        resize=resize,
        episodes=episodes,
        action_scale=action_scale,
        choices=choices[0] if choices and len(choices) == 1 else choices,
        skip_invalid=skip_invalid,
        overwrite=overwrite,
    )
    console.print(f"{dataset.name}: {len(dataset)} episodes, {dataset.frames:,} frames", highlight=False)


@app.command
def datasets(
    action: tyro.conf.Positional[Literal["list", "push", "pull"]],
    name: tyro.conf.Positional[str] = "",
    hub: str | None = None,
    overwrite: bool = False,
) -> None:
    """List, upload or download the datasets of a hub on Hugging Face; "wm-agents list datasets" lists the local ones.

    Args:
        action: What to do.
        name: Minari id of the dataset to push or pull.
        hub: Hub as hf://USER; by default Minari's own to list and pull, and none to push.
        overwrite: Replace a local dataset when pulling.
    """
    from wm_agents.datasets import list_remote, pull, push

    if action == "list":
        for found in list_remote(hub):
            console.print(found, highlight=False, soft_wrap=True)
    elif not name:
        raise ValueError(f"say which dataset: wm-agents datasets {action} NAME")
    elif action == "pull":
        console.print(f"wrote {pull(name, hub, overwrite=overwrite)}", highlight=False, soft_wrap=True)
    elif hub is None:
        raise ValueError(f"say where to: wm-agents datasets push {name} --hub hf://USER")
    else:
        push(name, hub)
        console.print(f"{name} is on {hub} now", highlight=False, soft_wrap=True)
