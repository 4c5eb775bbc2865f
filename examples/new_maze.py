"""A maze that the world model has never seen: keep its encoder, and refit GC-IDM and the graph on ten minutes of data.

Ten minutes are 60,000 steps of 0.01 s. Expect the success of both agents on random starts and goals, after a few
minutes on two CPU cores. With ``--fast``, it runs in seconds, and the agents are poor.

    python examples/new_maze.py [--fast]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gymnasium as gym

import wm_agents
from wm_agents import GCIDM, HierarchicalMPC, datasets, evaluation
from wm_agents.models import InverseDynamicsConfig
from wm_agents.training import GraphConfig, InverseDynamicsTrainingConfig, fit_graph

SPIRAL = ("########", "#      #", "# #### #", "# #  # #", "# ##   #", "# ######", "#      #", "########")
ROWS = [[int(cell == "#") for cell in row] for row in SPIRAL]
gym.register("my/Spiral-v0", "wm_agents.envs.pointmaze:PointMaze", max_episode_steps=600, kwargs={"maze_map": ROWS})


def main(fast: bool, out: Path, tasks: int) -> None:
    size = {"episodes": 6, "steps": 60} if fast else {"episodes": 150, "steps": 400}
    data = datasets.collect("my/Spiral-v0", name="my/spiral-fast-v0" if fast else "my/spiral-v0", workers=1, **size)
    world_model = wm_agents.load("pointmaze-medium/gc-idm").world_model
    flat = GCIDM(world_model, verbose=1).fit(
        data,
        model=InverseDynamicsConfig(max_horizon=250),
        training=InverseDynamicsTrainingConfig(steps=50 if fast else 6000),
        run_dir=out,
    )
    graph = fit_graph(world_model, data, GraphConfig(nodes=20, support=1) if fast else None)
    agent = HierarchicalMPC(world_model, heads=[graph, flat.heads["gc-idm"]])
    agent.env_id = "my/Spiral-v0"
    agent.save(out / "spiral")

    manifest = evaluation.make_manifest("my/Spiral-v0", tasks=tasks, offset="random", budget=20 if fast else 600)
    for name, player in (("GC-IDM", flat), ("graph + GC-IDM", agent)):
        result = evaluation.evaluate(player, manifest, name=name)
        print(f"{name}: {result.success_rate:.0%}, random actions {result.floors['random'].success_rate():.0%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="seconds instead of minutes; poor agents")
    parser.add_argument("--out", type=Path, default=Path("runs/spiral"), help="where the run is kept")
    parser.add_argument("--tasks", type=int, default=50, help="number of tasks")
    arguments = parser.parse_args()
    folder = arguments.out / ("fast" if arguments.fast else "full")
    main(arguments.fast, folder, 3 if arguments.fast else arguments.tasks)
