"""Draw your own maze, record data in it, train on them, save the agent and load it again.

Expect a success rate well above that of random actions, after a few minutes on two CPU cores. With ``--fast``, it
runs in seconds, and the agent is poor.

    python examples/train_your_own.py [--fast]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gymnasium as gym

import wm_agents
from wm_agents import GCIDM, datasets, evaluation, train_world_model
from wm_agents.models import InverseDynamicsConfig, LeWMConfig
from wm_agents.training import InverseDynamicsTrainingConfig, TrainingConfig

CROSS = ("#####", "## ##", "#   #", "## ##", "#####")
ROWS = [[int(cell == "#") for cell in row] for row in CROSS]
gym.register("my/Cross-v0", "wm_agents.envs.pointmaze:PointMaze", max_episode_steps=300, kwargs={"maze_map": ROWS})


def main(fast: bool, out: Path) -> None:
    # workers=1: other processes would not know the id that this file registers. With the registration in a module that
    # can be imported, "module:my/Cross-v0" works with any number of workers.
    size = {"episodes": 6, "steps": 60} if fast else {"episodes": 120, "steps": 300}
    data = datasets.collect("my/Cross-v0", name="my/cross-fast-v0" if fast else "my/cross-v0", workers=1, **size)

    training = TrainingConfig(steps=20 if fast else 1500)
    world_model, _ = train_world_model(data, LeWMConfig(latent_size=48), training, run_dir=out)
    agent = GCIDM(world_model, "my/Cross-v0", verbose=1)
    fitting = InverseDynamicsTrainingConfig(steps=50 if fast else 3000)
    agent.fit(data, model=InverseDynamicsConfig(max_horizon=40), training=fitting, run_dir=out)
    agent.save(out / "cross")

    agent = wm_agents.load(out / "cross", env="my/Cross-v0")
    tasks = evaluation.make_manifest("my/Cross-v0", tasks=3 if fast else 50, offset=50, budget=20 if fast else 100)
    result = evaluation.evaluate(agent, tasks)
    print(f"success {result.success_rate:.0%}, random actions {result.floors['random'].success_rate():.0%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="seconds instead of minutes; a poor agent")
    parser.add_argument("--out", type=Path, default=Path("runs/cross"), help="where the run is kept")
    arguments = parser.parse_args()
    main(arguments.fast, arguments.out)
