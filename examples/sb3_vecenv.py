"""A world-model agent used like an SB3 algorithm: ``evaluate_policy``, and a VecEnv stepped by hand.

Expect the mean reward (minus the steps to the goal) and the number of finished episodes, after seconds on one CPU core.

    python examples/sb3_vecenv.py [--episodes 8]
"""

from __future__ import annotations

import argparse

import numpy as np
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

import wm_agents


def main(episodes: int, budget: int) -> None:
    vec_env = make_vec_env(
        "wm/PointMaze-UMaze-v0", n_envs=4, seed=0, env_kwargs={"obs_type": "pixels", "max_episode_steps": budget}
    )
    agent = wm_agents.load("pointmaze-umaze/gc-idm", env=vec_env)
    mean, std = evaluate_policy(agent, vec_env, n_eval_episodes=episodes)
    print(f"mean reward {mean:.1f} +- {std:.1f}")

    # By hand: pass the state back, and mark the environments that have just started an episode.
    observations, state, episode_start, finished = vec_env.reset(), None, np.ones(4, dtype=bool), 0
    for _ in range(budget):
        actions, state = agent.predict(observations, state=state, episode_start=episode_start)
        observations, _, episode_start, _ = vec_env.step(actions)
        finished += int(episode_start.sum())
    print(f"{finished} episodes finished in {budget} steps of 4 environments")
    vec_env.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=8, help="episodes for evaluate_policy")
    parser.add_argument("--budget", type=int, default=300, help="environment steps allowed for an episode")
    arguments = parser.parse_args()
    main(arguments.episodes, arguments.budget)
