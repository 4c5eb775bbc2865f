"""From a folder of videos and tables of actions to a saved agent that predicts. No environment is needed.

    python examples/from_videos.py                       # films a toy robot first, into the folder "videos"
    python examples/from_videos.py --folder my/videos    # yours: run 1.mp4 and run 1.csv, run 2.mp4 and run 2.csv, ...

Expect some minutes on two CPU cores, "The world model predicts at least 50 steps ahead", and agent.zip.
"""

import argparse
from pathlib import Path

import imageio
import numpy as np

from wm_agents import GCIDM, datasets, train_world_model
from wm_agents.evaluation import offline_scores
from wm_agents.training import InverseDynamicsTrainingConfig, TrainingConfig


def film(folder: Path, episodes: int = 20, steps: int = 120) -> None:
    """A disc that actions push about, in videos; each with the actions in a csv file of the same name."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :128]
    folder.mkdir(parents=True, exist_ok=True)
    for episode in range(episodes):
        position, push, rows = rng.uniform(20, 76, 2), np.zeros(2), []
        path = folder / f"run {episode:02d}.mp4"
        with imageio.get_writer(path, format="FFMPEG", fps=20, macro_block_size=1) as video:
            for _ in range(steps):
                near = (x - position[0] - 16) ** 2 + (y - position[1]) ** 2 < 100
                video.append_data(np.where(near[..., None], [230, 180, 60], [40, 60, 90]).astype(np.uint8))
                push = np.clip(0.8 * push + rng.normal(0, 0.4, 2), -1, 1)
                position = np.clip(position + 3 * push, 10, 86)
                rows.append(push)
        np.savetxt(path.with_suffix(".csv"), rows, delimiter=",", header="action_x,action_y", comments="")


parser = argparse.ArgumentParser()
parser.add_argument("--folder", type=Path, default=Path("videos"))
parser.add_argument("--fast", action="store_true", help="a few seconds of training, to see the parts move")
arguments = parser.parse_args()
if not arguments.folder.exists():
    film(arguments.folder, *((4, 70) if arguments.fast else ()))
steps = 20 if arguments.fast else 1000

data = datasets.import_dataset(arguments.folder, name="mine/videos-v0", overwrite=True)
world_model, _ = train_world_model(data, training=TrainingConfig(steps=steps, batch_size=64))
agent = GCIDM(world_model, verbose=1).fit(data, training=InverseDynamicsTrainingConfig(steps=2 * steps))
agent.save("agent.zip")
print(*offline_scores(agent, data).verdict, sep="\n")

now, goal = data.frames_at(data.starts[[0, 0]] + [0, 30])
action, state = agent.predict({"pixels": now, "goal_pixels": goal})
print("the first action towards frame 30:", action, "recorded:", data.actions[data.starts[0]])
