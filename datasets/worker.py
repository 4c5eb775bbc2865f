"""A collection process: ``python -m wm_agents.datasets.worker FOLDER`` records the episodes listed on its input.

A plain interpreter instead of ``multiprocessing``: the caller's script needs no ``if __name__ == "__main__"`` guard,
and every worker has its own renderer.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import gymnasium as gym

from wm_agents.datasets.episodes import open_env, record_episode


def main() -> None:
    """Record the episodes given as a JSON list on standard input; stop when the parent process is gone."""
    folder, parent = Path(sys.argv[1]), os.getppid()
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    if request.get("spec"):
        gym.registry[request["env_id"]] = gym.envs.registration.EnvSpec.from_json(request["spec"])
    env = open_env(request["env_id"], request["image_size"])
    try:
        for index in json.load(sys.stdin):
            if os.getppid() != parent:
                return
            record_episode(env, request["policy"], request["steps"], request["seed"], folder, index)
    finally:
        env.close()


if __name__ == "__main__":
    main()
