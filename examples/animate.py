"""A moving picture of an agent at work: the start, the agent on its way, and the goal, side by side.

Expect ``animation.webp``, which shows the solved task that took the agent longest. A minute on two CPU cores.

    python examples/animate.py [AGENT] [--out animation.webp] [--offset 75] [--options '{"horizon": 75}']
"""

import argparse
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import wm_agents
from wm_agents import evaluation

GREEN, GREY = (46, 160, 67), (110, 110, 110)
SIZE, CAPTION, GAP, TASKS = 160, 24, 6, 12


def compose(images: list[np.ndarray], caption: str, colour: tuple[int, int, int]) -> Image.Image:
    canvas = Image.new("RGB", (3 * SIZE + 2 * GAP, SIZE + CAPTION), "white")
    draw = ImageDraw.Draw(canvas)
    for index, (image, text) in enumerate(zip(images, ("start", caption, "goal"), strict=True)):
        left = index * (SIZE + GAP)
        canvas.paste(Image.fromarray(image), (left, CAPTION))
        draw.text((left + 80, 12), text, colour if index == 1 else GREY, ImageFont.load_default(15), anchor="mm")
    draw.rectangle((SIZE + GAP, CAPTION, 2 * SIZE + GAP - 1, CAPTION + SIZE - 1), outline=colour, width=3)
    return canvas


def main(agent: str, out: Path, offset: int, options: dict[str, Any]) -> None:
    player: Any = wm_agents.load(agent, **options)
    manifest = evaluation.make_manifest(player.env_id, tasks=TASKS, offset=offset, budget=2 * offset)
    recordings = evaluation.evaluate(player, manifest, video=TASKS).recordings
    longest = max(recordings, key=lambda recording: recording.success_step or 0)
    if not (last := longest.success_step):
        raise SystemExit(f"{agent} solved none of {TASKS} tasks.")
    draw = gym.make(player.env_id, image_size=SIZE).unwrapped.render_state  # type: ignore[attr-defined]
    way = longest.path[: last + 1]
    start, goal = draw(way[0]), draw(manifest.goals[longest.task])
    step = 1 + last // 40
    frames = [compose([start, draw(state), goal], f"step {i * step}", GREY) for i, state in enumerate(way[:-1:step])]
    frames.append(compose([start, draw(way[-1]), goal], f"reached, step {last}", GREEN))
    times = [900, *[80] * (len(frames) - 2), 1800]
    frames[0].save(out, save_all=True, append_images=frames[1:], duration=times, loop=0, quality=60, method=6)
    print(f"wrote {out}: {agent} on its way to a goal that it reached after {last} steps")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agent", nargs="?", default="pointmaze-medium/gc-idm", help="see: wm-agents list agents")
    parser.add_argument("--out", type=Path, default=Path("animation.webp"), help=".webp or .gif")
    parser.add_argument("--offset", type=int, default=25, help="environment steps from start to goal")
    parser.add_argument("--options", type=json.loads, default={}, help="options of the agent, as JSON")
    main(**vars(parser.parse_args()))
