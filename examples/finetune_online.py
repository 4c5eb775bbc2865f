"""Learn online: from nothing, or on top of a shipped agent, and compare before and after on the same held-out tasks.

Expect both success rates. ``--agent lewm`` begins with nothing and takes minutes on one CPU core; with ``--fast``,
everything runs in seconds, and the agent is poor.

    python examples/finetune_online.py [--agent pointmaze-umaze/gc-idm] [--steps 5000] [--fast]
"""

from __future__ import annotations

import argparse
import dataclasses

import gymnasium as gym

import wm_agents
from wm_agents import GCIDM, OnlineConfig, evaluation


def main(name: str, steps: int, fast: bool) -> None:
    env = gym.make("wm/PointMaze-UMaze-v0")
    online = OnlineConfig(learning_starts=1000 if name == "lewm" else 0)
    if fast:
        steps = 160
        online = dataclasses.replace(online, learning_starts=80, train_freq=80, least_updates=5)
    agent = GCIDM("lewm", env, verbose=1) if name == "lewm" else wm_agents.load(name, env=env)
    tasks = evaluation.make_manifest(
        "wm/PointMaze-UMaze-v0", tasks=2 if fast else 50, offset="random", budget=20 if fast else 300
    )
    before = evaluation.evaluate(agent, tasks, progress=False)

    agent.learn(steps, online=online)  # a warning names heads that a shipped agent does not act with: they are dropped
    agent.save("finetuned")
    agent.save_replay_buffer("finetuned-replay")  # a later run goes on from the two files

    after = evaluation.evaluate(agent, tasks, progress=False, known_floors=before.floors)
    print(f"{agent.num_timesteps} environment steps, {len(agent.replay_buffer)} episodes")
    print(f"success before {before.success_rate:.0%}, after {after.success_rate:.0%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agent", default="lewm", help='a shipped agent or a file; "lewm": nothing, but a LeWM')
    parser.add_argument("--steps", type=int, default=5000, help="environment steps")
    parser.add_argument("--fast", action="store_true", help="seconds instead of minutes; a poor agent")
    arguments = parser.parse_args()
    main(arguments.agent, arguments.steps, arguments.fast)
