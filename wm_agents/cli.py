"""The ``wm-agents`` command. Flags are generated from function signatures and config dataclasses by tyro."""

from __future__ import annotations

import json as json_module
import shlex
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Column, Table

from wm_agents.models import InverseDynamicsConfig, WorldModelConfig
from wm_agents.training import InverseDynamicsTrainingConfig, TrainingConfig

app = tyro.extras.SubcommandApp()
console = Console()
Flat = tyro.conf.OmitArgPrefixes


@app.command
def doctor() -> None:
    """Check rendering, versions and threads; print the cure for what is missing."""
    from wm_agents.doctor import diagnose

    if not diagnose(console):
        raise SystemExit(1)


@app.command(name="list")
def list_names(
    what: tyro.conf.Positional[Literal["agents", "envs", "datasets", "planners", "objectives", "policies"]],
) -> None:
    """List what exists.

    Args:
        what: Shipped agents, environments, local datasets, planners, objectives, or exploration policies.
    """
    import gymnasium as gym

    from wm_agents import datasets, list_checkpoints
    from wm_agents.planning import OBJECTIVES, PLANNERS

    if what == "envs":
        table = Table(Column("id", no_wrap=True), "state", "action", "budget", "success")
        for env_id in sorted(name for name in gym.registry if name.startswith("wm/")):
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
        console.print(table)
        return
    if what in ("planners", "objectives"):
        table = Table(Column("name", no_wrap=True), "what it does")
        registry = PLANNERS if what == "planners" else OBJECTIVES
        for name in registry:
            table.add_row(name, rich_escape((registry.get(name).__doc__ or "").splitlines()[0]))
        console.print(table)
        return
    names: dict[str, Any] = {"agents": list_checkpoints, "datasets": datasets.list_datasets,
                             "policies": lambda: datasets.POLICIES}  # fmt: skip
    for name in names[what]():
        console.print(name, highlight=False)


@app.command
def collect(
    env_id: tyro.conf.Positional[str], policy: str | None = None, episodes: int = 120, steps: int = 300, seed: int = 0,
    name: str | None = None, image_size: int = 64, workers: int | None = None, overwrite: bool = False,
) -> None:  # fmt: skip
    """Record reward-free episodes into a Minari dataset; run again to go on after an interruption.

    Args:
        env_id: Gymnasium id or task name, for example wm/PointMaze-UMaze-v0 or pointmaze-umaze.
        policy: Exploration policy, by default the one that suits the task; see "wm-agents list policies".
        episodes: Episodes.
        steps: Environment steps of each.
        seed: Of starts, goals and noise.
        name: Minari id; by default wm/<task>/<policy>-v0.
        image_size: Height and width in pixels.
        workers: Processes; by default one a core.
        overwrite: Replace a dataset of that name.
    """
    from wm_agents import datasets

    dataset = datasets.collect(
        full_id(env_id), policy=policy, episodes=episodes, steps=steps, seed=seed, name=name, image_size=image_size,
        workers=workers, overwrite=overwrite,
    )  # fmt: skip
    console.print(f"{dataset.name}: {len(dataset)} episodes, {dataset.frames:,} frames", highlight=False)


@app.command(name="import")
def import_dataset(
    source: tyro.conf.Positional[str], format: str = "auto", env_id: str | None = None, name: str | None = None,
    frames: Literal["auto", "stored", "rendered"] = "auto", image_size: int = 64, episodes: int | None = None,
    action_scale: float | None = None, skip_invalid: bool = False, overwrite: bool = False,
) -> None:  # fmt: skip
    """Import a foreign dataset: LeWM's HDF5, OGBench's npz, Minari's D4RL/pointmaze.

    Args:
        source: A file, or the id of a local Minari dataset.
        format: lewm-hdf5, ogbench-npz or d4rl-pointmaze; found out by default.
        env_id: Gymnasium id or task name that the data are of; without it frames and actions stay as they are.
        name: Minari id; by default wm/<task>/<file>-v0.
        frames: Stored ones, or rendered by the task from states; by default stored where there are any.
        image_size: Height and width in pixels.
        episodes: Only that many, from the first.
        action_scale: What actions are multiplied by; the format's own by default.
        skip_invalid: Leave out episodes that are not valid.
        overwrite: Replace a dataset of that name.
    """
    from wm_agents import datasets

    dataset = datasets.import_dataset(
        source, format=format, env_id=full_id(env_id) if env_id else None, name=name, frames=frames,
        image_size=image_size, episodes=episodes, action_scale=action_scale, skip_invalid=skip_invalid,
        overwrite=overwrite,
    )  # fmt: skip
    console.print(f"{dataset.name}: {len(dataset)} episodes, {dataset.frames:,} frames", highlight=False)


@app.command
def train(
    dataset: tyro.conf.Positional[str], out: Path, model: Annotated[WorldModelConfig, Flat] = WorldModelConfig(),
    training: Annotated[TrainingConfig, Flat] = TrainingConfig(), device: str = "auto", resume: bool = False,
) -> None:  # fmt: skip
    """Train a world model on a dataset; writes OUT/world-model.safetensors.

    Args:
        dataset: Minari id; see "wm-agents list datasets".
        out: Directory of this run.
        model: Shape of the networks.
        training: Options of the training.
        device: auto, cpu or cuda.
        resume: Go on with the run that is in OUT.
    """
    from stable_baselines3.common.logger import configure

    from wm_agents import datasets, train_world_model
    from wm_agents.checkpoint import Checkpoint, save_checkpoint, versions

    if (out / "training.safetensors").exists() and not resume:
        raise ValueError(f"{out} holds a run already: add --resume to go on with it, or give another --out.")
    data = datasets.load(dataset)
    world_model, history = train_world_model(
        data, model, training, run_dir=out, logger=configure(str(out), ["csv", "tensorboard"]), device=device
    )
    made = {"dataset": data.provenance, "command": command_line(), "versions": versions(), "seed": training.seed,
            "measured": {name: points[-1][1] for name, points in history.items()}}  # fmt: skip
    path = out / "world-model.safetensors"
    save_checkpoint(Checkpoint(world_model, env_id=data.env_id, provenance=made), path)
    console.print(f"wrote {path}", highlight=False, soft_wrap=True)


@app.command
def fit(
    checkpoint: tyro.conf.Positional[Path], dataset: tyro.conf.Positional[str], out: Path,
    model: Annotated[InverseDynamicsConfig, Flat] = InverseDynamicsConfig(),
    training: Annotated[InverseDynamicsTrainingConfig, Flat] = InverseDynamicsTrainingConfig(), device: str = "auto",
) -> None:  # fmt: skip
    """Fit GC-IDM on a world model; writes OUT/agent.safetensors. Run again to go on after an interruption.

    Args:
        checkpoint: File with the world model.
        dataset: Minari id.
        out: Directory of this run.
        model: Shape of the network.
        training: Options of the training.
        device: auto, cpu or cuda.
    """
    from wm_agents import GCIDM, datasets
    from wm_agents.agents.base import open_checkpoint
    from wm_agents.pipeline import AGENT_FILE

    source, data = open_checkpoint(checkpoint), datasets.load(dataset)
    agent = GCIDM(source.world_model, seed=training.seed, device=device, verbose=1)
    agent.env_id, agent.provenance = source.env_id, {**source.provenance, "fit": command_line()}
    agent.fit(data, model=model, training=training, run_dir=out)
    agent.save(out / AGENT_FILE)
    console.print(f"wrote {out / AGENT_FILE}", highlight=False, soft_wrap=True)


@app.command
def reproduce(task: tyro.conf.Positional[str], out: Path | None = None, seed: int = 0, device: str = "auto") -> None:
    """Collect, train and fit one task's agents with its recipe; the shipped checkpoints are made like this.

    Args:
        task: Task name or Gymnasium id.
        out: Directory of the run; by default runs/<task>-<seed>.
        seed: Of training.
        device: auto, cpu or cuda.
    """
    from wm_agents import pipeline
    from wm_agents.recipes import recipe

    chosen = recipe(task)
    folder = out or Path("runs") / f"{chosen.task}-{seed}"
    pipeline.reproduce(chosen, folder, seed=seed, device=device, command=command_line())
    console.print(f"wrote {folder / pipeline.AGENT_FILE}", highlight=False, soft_wrap=True)


@app.command
def evaluate(
    agent: tyro.conf.Positional[str], task: str | None = None, tasks: int = 200, offset: str = "25",
    budget: int | None = None, seed: int = 0, num_envs: int = 16, manifest: Path | None = None,
    json: Path | None = None, video: Path | None = None, options: tuple[str, ...] = (), device: str = "auto",
) -> None:  # fmt: skip
    """Evaluate an agent on held-out tasks, with floors and intervals.

    Args:
        agent: A shipped agent ("pointmaze-umaze/gc-idm"), or FILE or FILE:AGENT for your own checkpoint.
        task: Gymnasium id or task name; by default the one that the agent was trained on.
        tasks: Number of tasks.
        offset: Steps from start to goal in a held-out episode, or "random" for two random free states.
        budget: Environment steps allowed; by default twice the offset, or the task's usual limit.
        seed: Of the task set.
        num_envs: Environments that share a call; 1 for timings of a single one.
        manifest: Use the tasks of this file; written there first if it does not exist.
        json: Write all numbers here.
        video: Write the first 4 tasks here, .mp4 or .gif.
        options: The agent's own options as name=value, for example horizon=10 precision=bf16.
        device: auto, cpu or cuda.
    """
    import gymnasium as gym

    from wm_agents import evaluation, load
    from wm_agents.recipes import RECIPES

    if video is not None:
        evaluation.check_video_path(video)
    name, _, kind = agent.partition(":")
    player: Any = load(name, agent=kind or None, device=device, **parse_options(options))
    env_id = full_id(task) if task else player.env_id
    if manifest is not None and manifest.exists():
        chosen = evaluation.Manifest.load(manifest)
        if task not in (None, chosen.env_id):
            raise ValueError(f"{manifest} holds tasks of {chosen.env_id}, not of {task}: leave out --task, or give "
                             "another --manifest.")  # fmt: skip
    else:
        distance: Any = offset if offset == "random" else parse_offset(offset)
        evaluation.check_env_id(env_id)
        limit = gym.spec(env_id).max_episode_steps or 300
        steps = budget if budget is not None else (limit if distance == "random" else 2 * distance)
        policies = {recipe.env_id: recipe.policy for recipe in RECIPES.values()}
        chosen = evaluation.make_manifest(
            env_id, tasks=tasks, offset=distance, budget=steps, seed=seed, policy=policies.get(env_id)
        )
        if manifest is not None:
            chosen.save(manifest)
    label = f"{Path(name).resolve().parent.name}/{player.name}" if Path(name).is_file() else agent
    result = evaluation.evaluate(player, chosen, num_envs=num_envs, video=4 if video else None, name=label)
    evaluation.print_report([result], console)
    if json is not None:
        result.save(json)
    if video is not None:
        evaluation.write_video(video, result.recordings)


@app.command
def bench(
    what: tyro.conf.Positional[Literal["planners"]], agent: str = "pointmaze-umaze", out: Path = Path("runs/bench"),
    tasks: int = 100, quick: bool = False, device: str = "auto",
) -> None:  # fmt: skip
    """Measure every planner on one world model: success, cost of a plan, scaling, use of the machine.

    Args:
        what: What to measure.
        agent: A task with a shipped checkpoint, or the path of your own.
        out: Where planners.json and planners.png are written; run again to go on after an interruption.
        tasks: Held-out tasks for each planner, 100 steps from start to goal.
        quick: A check that all works in a minute or two, not a result.
        device: auto, cpu or cuda.
    """
    from wm_agents.bench import bench_planners

    bench_planners(agent, out=out, tasks=tasks, quick=quick, device=device, console=console)
    console.print(f"wrote {out}/{what}.json and {out}/{what}.png", highlight=False, soft_wrap=True)


@app.command
def report(
    out: Path = Path("runs/report"), quick: bool = False, tasks: tuple[str, ...] = (), agents: tuple[str, ...] = (),
    protocols: tuple[str, ...] = (), checkpoints: tuple[str, ...] = (), tasks_per_cell: int | None = None,
    num_envs: int = 20, workers: int | None = None, precision: Literal["auto", "fp32", "bf16"] = "auto",
    videos: bool = True, timing: bool = True, measure: bool = True, device: str = "auto",
) -> None:  # fmt: skip
    """Compare the shipped agents on every task: success with intervals, paired tests, cost, beside the papers' numbers.

    Args:
        out: Where report.md, report.json, figures and videos are written; run again to go on after an interruption.
        quick: 20 tasks a cell in place of 200, goals up to 50 steps away, planners only as shipped, and no videos.
        tasks: Task names; all with a checkpoint by default.
        agents: gc-idm, cem-mpc, cem-mpc+gc-idm, mppi, icem, gradient-adam and gradient-sgd by default; other shipped
            agents work too.
        protocols: OFFSET/BUDGET in environment steps; 25/50, 50/100 and (not quick) 100/200 by default.
        checkpoints: Further training seeds: files, or a pattern such as runs/{task}-{seed}/agent.safetensors.
        tasks_per_cell: Another number of held-out tasks for each cell.
        num_envs: Environments that share a call.
        workers: Processes, of one thread each; by default one a core.
        precision: Of planners' rollouts; auto is bf16 where the CPU multiplies in it and the planner samples.
        videos: Record the first tasks of each cell.
        timing: Time a GC-IDM decision against a CEM plan of the papers' size, after the cells.
        measure: Measure the missing cells; --no-measure reports those that are there.
        device: auto, cpu or cuda.
    """
    from wm_agents.reporting import AGENTS, run_report

    run_report(
        out, tasks=tasks, agents=agents or tuple(AGENTS), protocols=protocols,
        checkpoints=checkpoints, quick=quick, tasks_per_cell=tasks_per_cell, num_envs=num_envs, workers=workers,
        precision=precision, device=device, videos=videos, timing=timing, measure=measure, command=command_line(),
        console=console,
    )  # fmt: skip
    console.print(f"wrote {out}/report.md, report.json and figures", highlight=False, soft_wrap=True)


@app.command
def study(
    name: tyro.conf.Positional[Literal["latent-actions", "learned-latent-actions"]], out: Path | None = None,
    quick: bool = False, task: str = "pointmaze-umaze",
) -> None:  # fmt: skip
    """Run a study: planners in latent action spaces, in synthetic worlds or on a shipped world model's latents.

    Args:
        name: latent-actions (synthetic worlds, tables and figures beside the paper's) or learned-latent-actions.
        out: Where JSON, Markdown and figures are written; by default runs/<name>.
        quick: A check that all works in a minute, not a result.
        task: Whose world model the learned latent actions are built on.
    """
    from wm_agents.recipes import recipe
    from wm_agents.studies import latent_actions, learned_latents

    folder = out or Path("runs") / name
    if name == "latent-actions":
        latent_actions.run(folder, quick=quick)
    else:
        learned_latents.run(folder, recipe(task).task, quick=quick)
    console.print(f"wrote {folder}", highlight=False, soft_wrap=True)


@app.command
def quickstart(
    out: Path = Path("runs/quickstart"), task: str = "pointmaze-umaze", tasks: int = 50, seed: int = 0,
    fast: bool = False,
) -> None:  # fmt: skip
    """The main job in one command: collect, train, fit, evaluate, and show it. About 5 minutes on two CPU cores.

    Args:
        out: Where everything is written; run again with the same directory to go on after an interruption.
        task: Task name or Gymnasium id.
        tasks: Held-out tasks to evaluate on.
        seed: Of training.
        fast: A few seconds of training, to see the parts move; the agents will be poor.
    """
    from wm_agents.quickstart import run

    run(console, out, task, tasks=tasks, seed=seed, fast=fast, command=command_line())


def full_id(name: str) -> str:
    """Return the Gymnasium id that a task name such as "pointmaze-umaze" stands for; other names as they are."""
    from wm_agents import datasets, envs

    return {datasets.task_name(env_id): env_id for env_id in envs.ENV_IDS}.get(name, name)


def parse_offset(text: str) -> int:
    """Return the offset as a number of steps, or raise ``ValueError`` with what is allowed."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f'offset must be a number of steps or "random", not {text!r}.') from None


def parse_options(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Return ``name=value`` pairs as a dict, values read as JSON where they are JSON and as text otherwise."""
    options: dict[str, Any] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name.isidentifier():
            raise ValueError(f"options are name=value, for example horizon=10, not {pair!r}.")
        try:
            options[name] = json_module.loads(value)
        except json_module.JSONDecodeError:
            options[name] = value
    return options


def command_line() -> str:
    """Return the command as typed, without the path of the program."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def main() -> None:
    """Run the command line; an expected error is one line, not a traceback."""
    warnings.filterwarnings("ignore", message=".*MINARI.*")
    try:
        app.cli(prog="wm-agents", description="World-model agents with the face of Stable-Baselines3.")
    except KeyboardInterrupt:
        console.print("\ninterrupted; what was done is kept: run the same command to go on", style="yellow")
        raise SystemExit(130) from None
    except (ImportError, ValueError, RuntimeError, OSError) as error:
        Console(stderr=True).print(f"[bold red]error:[/] {rich_escape(str(error))}", highlight=False, soft_wrap=True)
        raise SystemExit(2) from None


def rich_escape(text: str) -> str:
    """Keep square brackets of a message from being read as markup."""
    return text.replace("[", r"\[")


if __name__ == "__main__":
    main()
