"""Your own frames and actions as a dataset: arrays, lists or generators, written to the disk as they come."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from minari.data_collector.episode_buffer import EpisodeBuffer

from wm_agents.configs import check_flag, checked_image_size
from wm_agents.datasets.checks import ColumnError, SquareFrames, check_counts, each, numbers, refusal
from wm_agents.datasets.collect import episode_bar, versions, work_folder
from wm_agents.datasets.dataset import TrajectoryDataset
from wm_agents.datasets.discrete import DiscreteSpace, discrete_space, whole_actions
from wm_agents.datasets.loading import TOLERANCE, dataset_root, load
from wm_agents.datasets.writing import episode_buffer, put_in_place, write_episodes
from wm_agents.images import check_resize


def from_episodes(
    images: Iterable[Any],
    actions: Iterable[Any],
    *,
    name: str,
    states: Iterable[Any] | None = None,
    state_names: Sequence[str] | None = None,
    image_size: int = 64,
    resize: str = "stretch",
    action_low: Any = None,
    action_high: Any = None,
    choices: int | Sequence[int] | None = None,
    env_id: str = "",
    overwrite: bool = False,
    progress: bool = True,
) -> TrajectoryDataset:
    """Write episodes of frames and actions as the dataset ``name`` and return it, ready for training.

    Everything is read once, in order, and one episode of resized frames is in memory at a time, so generators of any
    length are fine. Nothing is at the dataset's name until all of it is there; a failure leaves nothing behind.

    Args:
        images: For each episode its T+1 frames, an array or any iterable: uint8, or floats from 0 to 1, of the shape
            ``[H, W]``, ``[H, W, C]`` or ``[C, H, W]`` with 1, 3 or 4 channels.
        actions: For each episode its actions ``[T, A]``; action ``t`` leads from frame ``t`` to frame ``t+1``.
        name: Minari id, ``[namespace/]name-v<number>``.
        states: For each episode the simulator's states ``[T+1, S]``, which only probes read; None where there are none.
        state_names: What the S numbers are. Probes take ``..._angle`` for an angle in rad, ``v_...`` for a velocity.
        image_size: Height and width of the stored frames in pixels.
        resize: "stretch" keeps the whole image and gives up its aspect, "crop" keeps the centre, "pad" adds black bars.
        action_low: Lowest action, a number or ``[A]``; by default the lowest that is found.
        action_high: Highest action.
        choices: For discrete actions, whole numbers from 0: their number of choices, or several, one for each number of
            an action. Actions are then ``[T]`` or ``[T, M]``, and no bounds are given.
        env_id: Gymnasium id of the environment that the episodes are from, where there is one.
        overwrite: Replace an existing dataset of that name.
        progress: Show how many episodes are done.

    Raises:
        ValueError: A bad argument, or an episode that is not valid: the message names the episode, the frame or row,
            and what is wrong with it. Another dataset has that name.
        RuntimeError: Another process is writing the same dataset.
        OSError: The disk is too full; nothing has been written.
    """
    image_size, resize = checked_image_size(image_size), check_resize(resize)
    overwrite, progress = check_flag("overwrite", overwrite), check_flag("progress", progress)
    if not isinstance(env_id, str):
        raise ValueError(f'env_id must be text, the id of an environment or "", not {env_id!r}.')
    if (action_low is None) != (action_high is None):
        raise ValueError("action_low and action_high belong together: give both or neither.")
    if choices is not None and action_low is not None:
        raise ValueError("choices are for discrete actions, bounds for continuous ones: give one of the two.")
    discrete = None if choices is None else discrete_space(choices)
    one_episode = 1 if isinstance(discrete, gym.spaces.Discrete) else 2
    if getattr(images, "ndim", 5) == 4 and getattr(actions, "ndim", 3) <= one_episode:
        raise refusal(name, "images and actions are those of one episode: pass lists of episodes, [images], [actions].")
    root = dataset_root(name)
    if root.exists() and not overwrite:
        raise ValueError(f"A dataset {name!r} already exists. Pass another name, or overwrite=True to replace it.")
    made: dict[str, Any] = {
        "policy": "recorded",
        "env_id": env_id,
        "image_size": image_size,
        "resize": resize,
        "versions": versions(),
    }
    with work_folder(name, root, "new") as folder, episode_bar(progress, name, None, 0) as report:
        episodes = _buffers(name, _together(name, images, actions, states), image_size, resize, discrete)
        first = next(episodes, None)
        if first is None:
            raise refusal(name, "there are no episodes.")
        space = discrete or _box(first.actions.shape[1:], action_low, action_high)
        made["state_names"] = _state_names(first, state_names)

        def checked() -> Iterator[EpisodeBuffer]:
            for index, episode in enumerate(itertools.chain([first], episodes)):
                _check_same(name, index, episode, first, space)
                yield episode
                made["episodes"] = index + 1
                report(index + 1)

        write_episodes(
            checked(),
            name,
            folder,
            pixel_space=gym.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8),
            action_space=space,
            env_spec=None,
            description="Recorded episodes of frames and actions.",
            made=made,
        )
        put_in_place(name, folder, root)
    return load(name)


def _together(
    name: str, images: Iterable[Any], actions: Iterable[Any], states: Iterable[Any] | None
) -> Iterator[tuple[Any, Any, Any]]:
    """Yield frames, actions and states of one episode after the other; each must have as many."""
    sources = {"images": images, "actions": actions} | ({} if states is None else {"states": states})
    for what, source in sources.items():
        try:
            each(source, what)
        except ColumnError as error:
            raise refusal(name, error.problem, column=what) from error
    for index, parts in enumerate(itertools.zip_longest(*sources.values())):
        missing = [what for what, part in zip(sources, parts, strict=True) if part is None]
        if missing:
            raise refusal(name, f"there are no {missing[0]} for it, and others are there.", episode=index)
        yield parts if states is not None else (*parts, None)


def _buffers(
    name: str,
    episodes: Iterable[tuple[Any, Any, Any]],
    image_size: int,
    resize: str,
    discrete: DiscreteSpace | None,
) -> Iterator[EpisodeBuffer]:
    square = SquareFrames(image_size, resize)
    for index, (images, actions, states) in enumerate(episodes):
        try:
            taken = whole_actions(actions, discrete) if discrete else _continuous(actions)
            frames = square.of(images)
            check_counts(len(frames), len(taken))
            infos = {} if states is None else {"state": numbers(states, "state", "T+1")}
            if infos and len(infos["state"]) != len(frames):
                raise ColumnError("states", f"it has {len(infos['state'])} rows for {len(frames)} frames.")
        except ColumnError as error:
            raise refusal(name, error.problem, episode=index, column=error.column) from error
        yield episode_buffer(index, frames, taken, **infos)


def _continuous(actions: Any) -> np.ndarray:
    if getattr(actions, "ndim", 0) == 1 and getattr(getattr(actions, "dtype", None), "kind", "") in "iu":
        problem = f"it has the shape {actions.shape}; [T, numbers of each action] is needed. If they are discrete, say "
        raise ColumnError("actions", f"{problem}how many choices there are: choices=.")
    return numbers(actions, "action", "T").astype(np.float32)


def _box(size: tuple[int, ...], action_low: Any, action_high: Any) -> gym.spaces.Box:
    low, high = _bound(-np.inf, action_low, size), _bound(np.inf, action_high, size)
    if not (low <= high).all():
        raise ValueError(f"action_low must be at most action_high, not {action_low!r} and {action_high!r}.")
    return gym.spaces.Box(low, high, dtype=np.float32)


def _bound(otherwise: float, value: Any, size: tuple[int, ...]) -> np.ndarray:
    try:
        return np.broadcast_to(np.asarray(otherwise if value is None else value, np.float32), size).copy()
    except (TypeError, ValueError) as error:
        raise ValueError(f"bounds of actions are numbers or arrays of {size[0]} numbers, not {value!r}.") from error


def _state_names(episode: EpisodeBuffer, names: Sequence[str] | None) -> list[str]:
    size = np.shape((episode.infos or {}).get("state", np.zeros((1, 0))))[1]
    if names is not None and not (isinstance(names, list | tuple) and all(isinstance(each, str) for each in names)):
        raise ValueError(f'state_names must be a list of texts, such as ["x", "y"], not {names!r}.')
    if names is not None and len(names) != size:
        raise ValueError(f"state_names has {len(names)} names, a state {size} numbers: give one name for each.")
    if names is not None and len(set(names)) < size:
        raise ValueError(f"state_names must differ from each other, unlike {list(names)}.")
    return list(names) if names is not None else [f"state_{i}" for i in range(size)]


def _check_same(name: str, index: int, episode: EpisodeBuffer, first: EpisodeBuffer, space: gym.Space[Any]) -> None:
    """Raise unless an episode fits the first one and the bounds, by up to a tenth of the distance between them."""
    for column, here, there in (
        ("actions", episode.actions, first.actions),
        ("states", (episode.infos or {}).get("state"), (first.infos or {}).get("state")),
    ):
        if here is not None and there is not None and here.shape[1:] != there.shape[1:]:
            problem = f"it has {here.shape[1]} numbers a row, in the episodes before it {there.shape[1]}."
            raise refusal(name, problem, episode=index, column=column)
    if not isinstance(space, gym.spaces.Box):
        return
    slack = TOLERANCE * np.where(space.bounded_above & space.bounded_below, space.high - space.low, 1.0)
    outside = np.maximum(space.low - slack - episode.actions, episode.actions - space.high - slack)
    if outside.max() > 0:
        row, part = np.unravel_index(int(np.argmax(outside)), outside.shape)
        problem = (
            f"row {row} has {episode.actions[row, part]:g} in dimension {part}, whose bounds are {space.low[part]:g} "
            f"and {space.high[part]:g}. Correct the units or the bounds."
        )
        raise refusal(name, problem, episode=index, column="actions")
