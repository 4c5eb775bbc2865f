"""Videos of evaluated tasks: the agent's image, its subgoal, and the goal. The border turns green on success."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import imageio
import numpy as np
from imageio_ffmpeg import count_frames_and_secs
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from wm_agents.evaluation.files import atomic_path

SUFFIXES = (".mp4", ".gif")
SEPARATOR, BORDER, HOLD_SECONDS = 4, 6, 0.8
COLUMNS = 5
"""Pictures of a plan in a row."""
LABEL = 120
"""Width of an agent's name in a grid."""
BACKGROUND, RUNNING, SUCCESS, FAILURE = (24, 24, 24), (120, 120, 120), (46, 160, 67), (200, 60, 50)


@dataclass
class Recording:
    """The frames of one task.

    Attributes:
        task: Index in the manifest.
        goal: uint8 ``[H, W, 3]`` goal image.
        frames: uint8 ``[H, W, 3]`` images, the start first, then one after each environment step.
        success_step: Steps until the first success (moderate mode), or None.
        path: Simulator states, each float64 ``[S]``, one for each of ``frames``.
        subgoals: uint8 ``[H, W, 3]`` images of a hierarchical agent's subgoal at each step; empty for other agents.
        caption: Text below the images.
        subgoal_states: Simulator states of these, each float64 ``[S]``; NaN if the subgoal was the goal itself.
        plans: uint8 ``[h, H, W, 3]`` pictures of what the agent's plan was expected to do, at each step; empty if they
            were not asked for.
    """

    task: int
    goal: np.ndarray
    frames: list[np.ndarray] = field(default_factory=list)
    success_step: int | None = None
    path: list[np.ndarray] = field(default_factory=list)
    subgoals: list[np.ndarray] = field(default_factory=list)
    subgoal_states: list[np.ndarray] = field(default_factory=list)
    plans: list[np.ndarray] = field(default_factory=list)
    caption: str = ""


def write_video(path: str | Path, recordings: Sequence[Recording], *, fps: int = 15, height: int = 256) -> None:
    """Write the recordings one after another: observation on the left, goal on the right, a subgoal between them.

    The caption is below the images. It says how likely the agent was to succeed, if that is known. If the recordings
    have plans, the rows below the images show what the agent imagines: one picture after each action block of its plan.

    The border is grey while the agent is on its way, green from its first success on, and red on the last frame of a
    task that failed; each task's last frame is held for a moment. The file appears at ``path`` when it is complete.

    Args:
        path: Ends in ``.mp4`` (H.264) or ``.gif``.
        recordings: At least one, from :func:`wm_agents.evaluation.evaluate`.
        fps: Frames (environment steps) per second, at least 1.
        height: Images are enlarged by a whole factor, without smoothing, to at least this many pixels.

    Raises:
        ValueError: The suffix is neither ``.mp4`` nor ``.gif``, there is nothing to write, or fps is below 1.
        OSError: The file could not be written to its end.
    """
    hold = round(HOLD_SECONDS * fps)
    _write(path, (frame for one in recordings for frame in compose(one, hold=hold, height=height)), fps)


def write_video_grid(
    path: str | Path, rows: Mapping[str, Sequence[Recording]], *, fps: int = 15, height: int = 128
) -> None:
    """Write the recordings of several agents on the same tasks as one video: agents in rows, tasks in columns.

    The goals are above the columns. All tasks begin together; one that is over stays as it ended. Borders have the
    colours of :func:`write_video`.

    Args:
        path: Ends in ``.mp4`` (H.264) or ``.gif``.
        rows: Recordings by the name of the agent; each has the same tasks in the same order.
        fps: Frames (environment steps) per second, at least 1.
        height: As for :func:`write_video`.

    Raises:
        ValueError: Two rows have other tasks, or as :func:`write_video` does.
        OSError: The file could not be written to its end.
    """
    tasks = {tuple(recording.task for recording in recordings) for recordings in rows.values()}
    if len(tasks) > 1:
        raise ValueError("the rows of a grid show the same tasks in the same order, and these do not.")
    _write(path, _grid(rows, round(HOLD_SECONDS * fps), height) if any(tasks) else (), fps)


def _grid(rows: Mapping[str, Sequence[Recording]], hold: int, height: int) -> Iterator[np.ndarray]:
    """Yield the frames of a grid, all of one size."""
    first = next(iter(rows.values()))
    goals = [_side_by_side([recording.goal], BACKGROUND, height) for recording in first]
    names = {name: _label(name, len(goals[0])) for name in ("goal", *rows)}
    head = np.concatenate([names["goal"], *goals], axis=1)
    longest = max(len(recording.frames) for recordings in rows.values() for recording in recordings)
    for step in range(longest + hold):
        cells = [
            np.concatenate([names[name], *(_at(recording, step, height) for recording in recordings)], axis=1)
            for name, recordings in rows.items()
        ]
        yield np.concatenate([head, *cells])


def _at(recording: Recording, step: int, height: int) -> np.ndarray:
    """A recording at a step, or as it ended: the image inside its border."""
    last = len(recording.frames) - 1
    frame = recording.frames[min(step, last)]
    return _side_by_side([frame], _colour(recording, min(step, last)), height)


def _colour(recording: Recording, step: int) -> tuple[int, int, int]:
    """The colour of the border at a step."""
    if recording.success_step is not None and step >= recording.success_step:
        return SUCCESS
    return FAILURE if step == len(recording.frames) - 1 else RUNNING


def _label(text: str, height: int) -> np.ndarray:
    """Return a row's name, uint8 ``[height, LABEL, 3]``."""
    written = _written(text, LABEL)
    canvas = np.full((height, LABEL, 3), BACKGROUND, np.uint8)
    top = max(0, (height - len(written)) // 2)
    canvas[top : top + len(written)] = written[:height]
    return canvas


def _write(path: str | Path, frames: Iterable[np.ndarray], fps: int) -> None:
    """Write frames of one size; the file appears when it is complete."""
    check_video_path(path)
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("there is nothing to write: evaluate with video=1 or more to record tasks.")
    if fps < 1:
        raise ValueError(f"fps must be at least 1, got {fps}.")
    with atomic_path(path) as temporary:
        if temporary.suffix.lower() == ".gif":
            writer = imageio.get_writer(temporary, format="GIF", mode="I", duration=1000 / fps, loop=0)
        else:
            # Frames have even sides already, so no resizing to multiples of 16 is needed.
            writer = imageio.get_writer(temporary, format="FFMPEG", fps=fps, codec="libx264", macro_block_size=1)
        written = 0
        with closing(writer):  # on errors too: the encoder must have let go of the file before it is removed
            for frame in itertools.chain([first], frames):
                writer.append_data(frame)
                written += 1
        if temporary.suffix.lower() != ".gif" and _frames_in(temporary) != written:
            raise OSError(f"the encoder did not finish {path}: look for its message above and for a full disk.")


def check_video_path(path: str | Path) -> None:
    """Raise ``ValueError`` unless ``path`` ends in a format that :func:`write_video` writes."""
    suffix = Path(path).suffix
    if suffix.lower() not in SUFFIXES:
        raise ValueError(f"cannot write a video as {suffix or 'a file without suffix'!r}: use {' or '.join(SUFFIXES)}.")


def compose(recording: Recording, *, hold: int = 0, height: int = 256) -> Iterator[np.ndarray]:
    """Yield the video frames of one task, uint8 ``[H, W, 3]`` with even sides; the last one ``1 + hold`` times."""
    last = len(recording.frames) - 1
    caption, longest = None, max((len(plan) for plan in recording.plans), default=0)
    for step, frame in enumerate(recording.frames):
        subgoal = recording.subgoals[min(step, len(recording.subgoals) - 1) :][:1]  # the last frame has no action
        composed = _side_by_side([frame, *subgoal, recording.goal], _colour(recording, step), height)
        if recording.plans:
            plan = recording.plans[min(step, len(recording.plans) - 1)]
            composed = np.concatenate([composed, _strip(plan, longest, composed.shape[1])])
        if recording.caption:
            caption = _written(recording.caption, composed.shape[1]) if caption is None else caption
            composed = np.concatenate([composed, caption])
        for _ in range(1 + (hold if step == last else 0)):
            yield composed


def _strip(pictures: np.ndarray, places: int, width: int) -> np.ndarray:
    """Return pictures ``[h, H, W, 3]`` in the first of so many places, uint8 ``[height, width, 3]`` with even sides."""
    columns = min(places, COLUMNS)
    side = (min(width - SEPARATOR, width * columns // 4) // columns - SEPARATOR) // 2 * 2
    step = side + SEPARATOR
    strip = np.full((-(-places // columns) * step + SEPARATOR, width, 3), BACKGROUND, dtype=np.uint8)
    for index, picture in enumerate(pictures):
        top, left = (SEPARATOR + step * place for place in divmod(index, columns))
        drawn = Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC)
        strip[top : top + side, left : left + side] = np.asarray(drawn)
    return strip


def _written(text: str, width: int) -> np.ndarray:
    """Return text in white on dark, uint8 ``[h, width, 3]`` with an even h."""
    lines = textwrap.wrap(text, max(10, width // 7))
    height = 18 * len(lines) + 8 - 18 * len(lines) % 2
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor="#{:02x}{:02x}{:02x}".format(*BACKGROUND))
    canvas = FigureCanvasAgg(figure)
    figure.text(6 / width, 0.5, "\n".join(lines), color="white", fontsize=8, va="center", parse_math=False)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _frames_in(path: Path) -> int:
    """Return the number of frames of an MP4, 0 if it cannot be read (the encoder's exit status is not reported)."""
    try:
        return int(count_frames_and_secs(str(path))[0])
    except (OSError, RuntimeError):
        return 0


def _side_by_side(images: Sequence[np.ndarray], colour: tuple[int, int, int], height: int) -> np.ndarray:
    images = [_enlarge(image, height) for image in images]
    tall = images[0].shape[0] + 2 * BORDER
    wide = sum(image.shape[1] + SEPARATOR for image in images) - SEPARATOR + 2 * BORDER
    canvas = np.full((tall + tall % 2, wide + wide % 2, 3), colour, dtype=np.uint8)
    inner = canvas[BORDER : BORDER + images[0].shape[0], BORDER : wide - BORDER]
    inner[:] = BACKGROUND
    left = 0
    for image in images:
        inner[:, left : left + image.shape[1]] = image
        left += image.shape[1] + SEPARATOR
    return canvas


def _enlarge(image: np.ndarray, height: int) -> np.ndarray:
    factor = max(1, -(-height // image.shape[0]))
    return image.repeat(factor, axis=0).repeat(factor, axis=1)
