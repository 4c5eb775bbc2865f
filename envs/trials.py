"""Trial rollouts of a foreign environment: which part of its images moves, how far its numbers range."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_agents.envs.actions import Actions
from wm_agents.envs.contract import Inner
from wm_agents.envs.success import Moment
from wm_agents.envs.views import View, moving_part

EPISODES, SPAN, EVERY = 16, 60, 4  # how many rollouts, how long, every how many steps a frame


@dataclass(frozen=True)
class Trial:
    """What the rollouts have shown.

    Attributes:
        moments: Some of their moments, with frames.
        episodes: int ``[N]``, the rollout of each.
        step_info: What ``step`` put into its info at last; some moments have the info of ``reset``.
    """

    moments: list[Moment]
    episodes: np.ndarray
    step_info: dict[str, Any]


def try_out(
    inner: Inner,
    actions: Actions,
    view: View,
    behave: Callable[[np.random.Generator], Any],
    focus: bool,
) -> Trial:
    """Explore for a while, and set the view by what is seen: its box to what moves, its cells to the numbers' ranges.

    Args:
        inner: The environment.
        actions: Its actions.
        view: Where its images come from.
        behave: Makes an exploration policy from a source of randomness.
        focus: Whether to set ``view.box``.

    Raises:
        ValueError: All images have one colour.
    """
    squares, found, episodes = [], [], []
    for episode in range(EPISODES):
        with view.drawing():
            observation, info = inner.reset(episode)
        behaviour = behave(np.random.default_rng([episode, 2]))
        for step in range(SPAN):
            state = inner.numbers(observation)
            if step % EVERY == 0:
                achieved = observation.get("achieved_goal") if isinstance(observation, dict) else None
                squares.append(view.square(observation))
                found.append((observation, Moment(state, None if achieved is None else np.array(achieved), None, info)))
                episodes.append(episode)
            with view.drawing():
                observation, _, terminated, truncated, info = inner.step(actions.to_inner(behaviour.act(state)))
            if terminated or truncated:
                break
    if all(square.min() == square.max() for square in squares):
        raise ValueError(
            f"all images of {view.name} have one colour, {squares[0][0, 0].tolist()}: "
            "nothing can be learnt from them. Does it render without errors? See `wm-agents doctor`."
        )
    if focus and len(view.sources) == 1:
        view.box = moving_part(np.stack(squares), view.resize == "stretch")
    view.set_ranges([(observation, moment.state) for observation, moment in found])
    moments = [
        Moment(moment.state, moment.achieved, view.compose(square, observation, moment.state), moment.info)
        for square, (observation, moment) in zip(squares, found, strict=True)
    ]
    return Trial(moments, np.array(episodes), info)
