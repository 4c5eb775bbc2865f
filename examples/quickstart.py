"""The whole pipeline in one file: collect data, train a world model, fit GC-IDM, and compare it with search.

It takes a few minutes on two CPU cores. Expect a table in which GC-IDM solves nearly all tasks, CEM fewer, and random
actions only some. With ``--fast``, it runs in seconds, and both agents are poor.

    python examples/quickstart.py [--fast]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from wm_agents import GCIDM, MPC, datasets, evaluation, train_world_model
from wm_agents.training import InverseDynamicsTrainingConfig, TrainingConfig

ENV_ID = "wm/PointMaze-UMaze-v0"


def main(fast: bool, out: Path) -> None:
    if fast:
        data = datasets.collect(ENV_ID, episodes=6, steps=60, name="examples/umaze-fast-v0")
    else:
        data = datasets.collect(ENV_ID, episodes=120, steps=300)

    training = TrainingConfig(steps=20 if fast else 1500)
    world_model, _ = train_world_model(data, training=training, run_dir=out)

    agent = GCIDM(world_model, ENV_ID, verbose=1)
    agent.fit(data, training=InverseDynamicsTrainingConfig(steps=50 if fast else 3000), run_dir=out)
    agent.save(out / "agent")

    planner = MPC(world_model, ENV_ID, planner="cem", horizon=5, samples=300)
    tasks = evaluation.make_manifest(ENV_ID, tasks=3 if fast else 50, offset="random", budget=20 if fast else 300)
    results = [evaluation.evaluate(player, tasks, name=player.name) for player in (planner, agent)]
    evaluation.print_report(results, Console())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="seconds instead of minutes; poor agents")
    parser.add_argument("--out", type=Path, default=Path("runs/example"), help="where the run is kept")
    arguments = parser.parse_args()
    main(arguments.fast, arguments.out)
