"""Does GC-IDM need regularised latents? This compares the same agent on four world models.

Trains the task's recipe with prediction alone, with SIGReg and with VICReg (in addition to the recipe's other terms),
fits the same GC-IDM on each, and evaluates all on the same held-out tasks. Expect about 6 minutes per world model on
two cores. Finished runs and results are kept, so the command can be repeated.

    python examples/benchmarks/regularisers.py --task reacher --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import warnings
from pathlib import Path

from rich.console import Console
from rich.table import Table

import wm_agents
from wm_agents import evaluation, pipeline
from wm_agents.evaluation.files import file_sha256
from wm_agents.models import LeWM
from wm_agents.recipes import recipe
from wm_agents.training.world_model import CollapseWarning

REGULARISERS: dict[str, dict[str, float]] = {
    "none": {},
    "sigreg": {"sigreg": 0.09},
    "vicreg": {"vicreg": 1.0},  # relative to prediction as in its paper
    "vicreg-10": {"vicreg": 10.0},
}


def main(task: str, seeds: list[int], tasks: int, offset: int, out: Path) -> None:
    warnings.simplefilter("ignore", CollapseWarning)  # collapse is what is looked for
    chosen = recipe(task)
    manifest = evaluation.make_manifest(chosen.env_id, tasks=tasks, offset=offset, budget=2 * offset)
    table = Table(
        "regulariser", "seed", "success", "95%", "strict", "latent std", "worst probe R2", title=f"GC-IDM, {task}"
    )
    for name, terms in REGULARISERS.items():
        first = chosen.stage("world-model")
        weights = first.training.loss_weights or LeWM.losses
        kept = {term: weight for term, weight in weights.items() if term not in ("sigreg", "vicreg")}
        training = dataclasses.replace(first.training, loss_weights={**kept, **terms})
        stages = (dataclasses.replace(first, training=training), chosen.stage("gc-idm"))
        variant = dataclasses.replace(chosen, stages=stages)
        for seed in seeds:
            folder = out / f"{chosen.task}-{name}-{seed}"
            pipeline.reproduce(variant, folder, seed=seed)  # finished: loads
            file = folder / pipeline.AGENT_FILE
            cell = evaluation.evaluation_cell(
                f"gc-idm-{offset}-{tasks}",
                functools.partial(wm_agents.load, file),
                manifest,
                {"checkpoint_sha256": file_sha256(file)},
                seed=None,
                name=f"gc-idm on {name}",
            )
            grid = evaluation.Grid(folder)
            failed = grid.run([cell], evaluation.Runner())
            found = grid.read(cell)
            if found is None:
                raise RuntimeError(failed[cell.name])
            measured = found["provenance"]["measured"]
            seen = [r2 for key, r2 in measured.items() if key.startswith("probe/") and not key.startswith("probe/v_")]
            interval = "-".join(f"{100 * bound:.0f}" for bound in found["ci95"])
            table.add_row(
                name,
                str(seed),
                f"{100 * found['success_rate']:.1f}",
                interval,
                f"{100 * found['strict']['success_rate']:.1f}",
                f"{measured['latent/std']:.3f}",
                f"{min(seen):.2f}",
            )
    table.caption = f"floors: random {100 * found['floors']['random']:.1f}, no-op {100 * found['floors']['noop']:.1f}"
    Console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="reacher")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--offset", type=int, default=25)
    parser.add_argument("--out", type=Path, default=Path("runs/regularisers"))
    arguments = parser.parse_args()
    main(arguments.task, arguments.seeds, arguments.tasks, arguments.offset, arguments.out)
