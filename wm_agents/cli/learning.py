"""Subcommands that train: train, fit, reproduce, quickstart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from wm_agents.cli.common import app, command_line, console
from wm_agents.models import InverseDynamicsConfig, WorldModelConfig
from wm_agents.training import InverseDynamicsTrainingConfig, TrainingConfig

Flat = tyro.conf.OmitArgPrefixes


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
    from wm_agents import datasets, train_world_model
    from wm_agents.checkpoint import Checkpoint, save_checkpoint, versions
    from wm_agents.training.common import open_log

    if (out / "training.safetensors").exists() and not resume:
        raise ValueError(f"{out} holds a run already: add --resume to go on with it, or give another --out.")
    data = datasets.load(dataset)
    world_model, history = train_world_model(data, model, training, run_dir=out, logger=open_log(out), device=device)
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
        checkpoint: File with the world model; what else an agent's file holds, heads and options, is kept.
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
    told = {name: value for name, value in source.options.get(GCIDM.name, {}).items() if name != "seed"}
    agent = GCIDM(source.world_model, seed=training.seed, device=device, verbose=1, **told)
    agent.env_id, agent.provenance = source.env_id, {**source.provenance, "fit": command_line()}
    agent.stored_options = source.options
    for name, head in source.heads().items():
        setattr(agent, name, head)  # that of GC-IDM is replaced
    agent.fit(data, model=model, training=training, run_dir=out)
    agent.save(out / AGENT_FILE)
    console.print(f"wrote {out / AGENT_FILE}", highlight=False, soft_wrap=True)


@app.command
def reproduce(
    task: tyro.conf.Positional[str], out: Path | None = None, tasks: int = 100, seed: int = 0, device: str = "auto"
) -> None:
    """Collect, train, fit and evaluate one task's agents with its recipe; the shipped checkpoints are made like this.

    Args:
        task: Task name or Gymnasium id.
        out: Directory of the run; by default runs/<task>-<seed>.
        tasks: Number of held-out tasks to evaluate GC-IDM and CEM-MPC on, with the recipe's goals; 0 leaves it out.
        seed: Of training.
        device: auto, cpu or cuda.
    """
    from wm_agents import evaluation, load, pipeline
    from wm_agents.recipes import recipe

    chosen = recipe(task)
    folder = out or Path("runs") / f"{chosen.task}-{seed}"
    path = folder / pipeline.AGENT_FILE
    if tasks:  # made first, so that a mistake is found before the training
        manifest = evaluation.make_manifest(
            chosen.env_id, tasks=tasks, offset=chosen.offset, budget=chosen.budget, policy=chosen.policy
        )
    pipeline.reproduce(chosen, folder, seed=seed, device=device, command=command_line())
    console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    if tasks:
        names = ("gc-idm", "cem-mpc")
        results = [evaluation.evaluate(load(path, agent=name, device=device), manifest, name=name) for name in names]
        evaluation.print_report(results, console)
        for result in results:
            result.save(folder / f"{result.agent}.json")


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
