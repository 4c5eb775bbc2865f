"""Subcommands that train: train, fit, reproduce, quickstart, solve."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import tyro

from wm_agents.cli.common import app, command_line, console, parse_options
from wm_agents.registry import did_you_mean


def configured(kind: Any, pairs: tuple[str, ...]) -> Any:
    """Make a configuration from ``name=value`` pairs.

    Raises:
        ValueError: A pair is not name=value, the configuration has no such name, or it refuses the value.
    """
    options = parse_options(pairs)
    known = [field.name for field in dataclasses.fields(kind)]
    for name in options:
        if name not in known:
            raise ValueError(did_you_mean(f"field of {kind.__name__}", name, known))
    return kind(**options)


@app.command
def train(
    dataset: tyro.conf.Positional[str],
    out: Path,
    kind: str = "lewm",
    objective: str | None = None,
    model: tuple[str, ...] = (),
    training: tuple[str, ...] = (),
    device: str = "auto",
    resume: bool = False,
) -> None:
    """Train a world model on a dataset; writes OUT/world-model.safetensors.

    Args:
        dataset: Minari id; see "wm-agents list datasets".
        out: Directory of this run.
        kind: Kind of world model: lewm, patch, dino-wm, rssm, or one from an installed plug-in.
        objective: What to train for: lewm, smwm, pldm, straightened, rc-aux, variable-length, reconstruction,
            forward-only, or one from an installed plug-in; loss_weights in --training change single terms of it. By
            default, the kind's own.
        model: Configuration of the world model as name=value pairs, for example latent_size=64 action_block=5.
        training: Options of the training as name=value pairs, for example steps=2000 batch_size=64 seed=1.
        device: auto, cpu or cuda.
        resume: Continue the run in OUT.
    """
    from wm_agents import datasets, train_world_model
    from wm_agents.checkpoint import Checkpoint, save_checkpoint, versions
    from wm_agents.registry import WORLD_MODELS
    from wm_agents.training import TrainingConfig
    from wm_agents.training.display import open_log
    from wm_agents.training.run import FOLDER

    shape, options = configured(WORLD_MODELS.get(kind).Config, model), configured(TrainingConfig, training)
    if (out / FOLDER / "world-model.safetensors").exists() and not resume:
        raise ValueError(f"{out} holds a run already: add --resume to continue it, or give another --out.")
    data = datasets.load(dataset)
    world_model, history = train_world_model(
        data, shape, options, objective=objective, run_dir=out, logger=open_log(out), device=device
    )
    made = {
        "dataset": data.provenance,
        "command": command_line(),
        "versions": versions(),
        "seed": options.seed,
        "measured": {name: points[-1][1] for name, points in history.items()},
    }
    path = out / "world-model.safetensors"
    save_checkpoint(Checkpoint(world_model, env_id=data.env_id, provenance=made), path)
    console.print(f"wrote {path}", highlight=False, soft_wrap=True)


@app.command
def fit(
    head: tyro.conf.Positional[str],
    checkpoint: tyro.conf.Positional[Path],
    dataset: tyro.conf.Positional[str],
    out: Path,
    model: tuple[str, ...] = (),
    training: tuple[str, ...] = (),
    device: str = "auto",
) -> None:
    """Fit a head on a world model's latents; writes OUT/agent.safetensors. The same command continues a stopped run.

    Args:
        head: gc-idm, temporal-distance, denoiser, graph, macro-actions, waypoints, latent-actions, viewer, or one from
            an installed plug-in. predictor, imagination and action-maps train a network of the file further.
        checkpoint: File with the world model. Heads and options that it contains are kept.
        dataset: Minari id.
        out: Directory of this run.
        model: Configuration of the network as name=value pairs, for example width=64.
        training: Options of the training as name=value pairs, for example steps=2000 seed=1.
        device: auto, cpu or cuda.
    """
    from wm_agents import datasets
    from wm_agents.agents.files import open_checkpoint, write_agent
    from wm_agents.models import WorldModel
    from wm_agents.pipeline import AGENT_FILE
    from wm_agents.registry import HEADS
    from wm_agents.training import find_device, learner_of, train_head
    from wm_agents.training.display import open_log

    options = configured(learner_of(head).Training, training)
    shape = configured(HEADS.get(head).Config, model) if head in HEADS else model or None
    source, data = open_checkpoint(checkpoint), datasets.load(dataset)
    where = find_device(device)
    world_model, heads = source.world_model.to(where), {name: kept.to(where) for name, kept in source.heads.items()}
    log = open_log(out)
    made, history = train_head(head, world_model, data, shape, options, heads=heads, run_dir=out, logger=log)
    if isinstance(made, WorldModel):
        source.world_model = made
    else:
        source.heads[made.name] = made
    source.heads.pop("assessment", None)  # it was measured with what has been replaced
    if head == "gc-idm":
        source.agent = source.agent or head
    measured = source.provenance.get("measured", {}) | {name: points[-1][1] for name, points in history.items()}
    source.provenance |= {"fit": command_line(), "measured": measured}
    write_agent(source, out / AGENT_FILE)
    console.print(f"wrote {out / AGENT_FILE}", highlight=False, soft_wrap=True)


@app.command
def reproduce(
    task: tyro.conf.Positional[str],
    out: Path | None = None,
    tasks: int = 100,
    calibration: int = 400,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """Make one task's agents with its recipe: collect, train, calibrate, evaluate. This made the shipped checkpoints.

    Args:
        task: Task name or Gymnasium id.
        out: Directory of the run; by default runs/<task>-<seed>.
        tasks: Number of held-out tasks on which GC-IDM and CEM are evaluated; 0 skips the evaluation.
        calibration: Number of development tasks on which GC-IDM is calibrated (see calibrate); 0 skips it.
        seed: Seed of the training.
        device: auto, cpu or cuda.
    """
    from wm_agents import evaluation, load, pipeline
    from wm_agents.agents.files import open_checkpoint
    from wm_agents.cli.measuring import store_calibration
    from wm_agents.evaluation.calibration import LEAST
    from wm_agents.recipes import recipe

    chosen = recipe(task)
    folder = out or Path("runs") / f"{chosen.task}-{seed}"
    path = folder / pipeline.AGENT_FILE
    if calibration and calibration < LEAST:
        raise ValueError(f"calibration needs at least {LEAST} tasks, or 0 to leave it out, not {calibration}.")
    if tasks:  # made first, so that a mistake is found before the training
        manifest = evaluation.make_manifest(
            chosen.env_id, tasks=tasks, offset=chosen.offset, budget=chosen.budget, policy=chosen.policy
        )
    pipeline.reproduce(chosen, folder, seed=seed, device=device, command=command_line())
    console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    if calibration:
        store_calibration(load(path, agent="gc-idm", device=device), open_checkpoint(path), path, tasks=calibration)
    if tasks:
        names = ("gc-idm", "cem")
        results = [evaluation.evaluate(load(path, agent=name, device=device), manifest, name=name) for name in names]
        for result in results:  # saved first: printing fails where a pipe is closed
            result.save(folder / f"{result.agent}.json")
        evaluation.print_report(results, console)


@app.command
def quickstart(
    out: Path = Path("runs/quickstart"),
    task: str = "pointmaze-umaze",
    tasks: int = 50,
    seed: int = 0,
    fast: bool = False,
) -> None:
    """Run the whole pipeline once: collect, train, fit, evaluate, and show the result. 5 minutes on two CPU cores.

    Args:
        out: Directory for everything. The same command continues an interrupted run.
        task: Task name or Gymnasium id.
        tasks: Number of held-out tasks to evaluate on.
        seed: Seed of the training.
        fast: Train only for a few seconds, to see how everything works; the agents will be poor.
    """
    from wm_agents.quickstart import run

    run(console, out, task, tasks=tasks, seed=seed, fast=fast, command=command_line())


@app.command
def solve(
    env: tyro.conf.Positional[str],
    minutes: float = 15,
    out: Path | None = None,
    tasks: int = 100,
    seed: int = 0,
    policy: str | None = None,
    options: tuple[str, ...] = (),
    device: str = "auto",
) -> None:
    """Make an agent for any Gymnasium environment: collect, train, fit, evaluate. Run again to go on after Ctrl-C.

    Args:
        env: Gymnasium id; with its module, my_package:my/Task-v0, where that registers it.
        minutes: For all of it, evaluation included; sizes and steps are chosen to fit.
        out: Where agent, table, video and figures are written; by default runs/solve-<task>.
        tasks: Held-out goals to evaluate on.
        seed: Of training.
        policy: Exploration policy; smooth-random by default.
        options: Of wm_agents.wrap as name=value, for example goal_steps=30 resize=crop success=is_success.
        device: auto, cpu or cuda.
    """
    from wm_agents.solving import solve as run

    wrapping = parse_options(options)
    run(
        env,
        minutes,
        out=out,
        tasks=tasks,
        seed=seed,
        policy=policy,
        wrapping=wrapping,
        device=device,
        command=command_line(),
        console=console,
    )
