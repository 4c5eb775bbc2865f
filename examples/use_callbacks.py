"""SB3's callbacks and TensorBoard with an agent that learns online.

Expect rows of evaluations, and in ``--out`` the best agent, checkpoints, and a TensorBoard log. It takes
minutes on one CPU core; with ``--fast``, seconds, and the agent is poor.

    python examples/use_callbacks.py [--steps 5000] [--fast]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from stable_baselines3.common.callbacks import (
    CheckpointCallback,
    EvalCallback,
    LogEveryNTimesteps,
    StopTrainingOnNoModelImprovement,
)
from stable_baselines3.common.env_util import make_vec_env

from wm_agents import GCIDM, OnlineConfig


def main(steps: int, fast: bool, out: Path) -> None:
    limit = {"max_episode_steps": 20 if fast else 300}
    env = make_vec_env("wm/PointMaze-UMaze-v0", n_envs=2, seed=0, env_kwargs=limit)
    agent = GCIDM("lewm", env, seed=0, tensorboard_log=str(out / "tensorboard"))
    every = 80 if fast else 1000
    callbacks = [
        EvalCallback(
            make_vec_env("wm/PointMaze-UMaze-v0", seed=1, env_kwargs=limit),
            n_eval_episodes=2 if fast else 20,
            eval_freq=every // env.num_envs,  # SB3 counts calls of env.step() here
            best_model_save_path=str(out),
            callback_after_eval=StopTrainingOnNoModelImprovement(10, min_evals=5),
        ),
        CheckpointCallback(every // env.num_envs, str(out / "checkpoints"), save_replay_buffer=True),
        LogEveryNTimesteps(every),
    ]
    online = OnlineConfig(learning_starts=80, train_freq=80, least_updates=5) if fast else OnlineConfig()
    agent.learn(160 if fast else steps, callback=callbacks, log_interval=None, online=online)

    best = GCIDM.load(out / "best_model", env=env)
    print(f"best agent after {best.num_timesteps} steps; checkpoints: {len(list((out / 'checkpoints').glob('*.zip')))}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5000, help="environment steps")
    parser.add_argument("--fast", action="store_true", help="seconds instead of minutes; a poor agent")
    parser.add_argument("--out", type=Path, default=Path("runs/callbacks"), help="where everything is written")
    arguments = parser.parse_args()
    main(arguments.steps, arguments.fast, arguments.out)
