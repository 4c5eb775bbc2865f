"""Goals of a foreign environment that do not come from rollouts: images of the user's, and the environment's own."""

from __future__ import annotations

from typing import Any

import numpy as np

from wm_agents.envs.success import InfoKey, Moment, Test, Told
from wm_agents.envs.views import View
from wm_agents.registry import did_you_mean

OWN = "own"
IMAGE_KEYS = ("goal_rendered", "goal", "desired_goal")
"""Where environments put the image of their goal: OGBench into the info of ``reset``, others into the observation."""


def given_goals(goals: Any, test: Test, view: View, size: int) -> list[Moment] | None:
    """Goals that the user gives, as moments; None where they come from rollouts or the environment.

    Args:
        goals: "rollout", "own", images, or a dataset.
        test: The success test.
        view: Makes frames of images.
        size: S, how many numbers an observation has.

    Raises:
        ValueError: They are none of these, or the success test cannot judge them.
    """
    if isinstance(goals, str):
        if goals not in ("rollout", OWN):
            raise ValueError(
                f"{did_you_mean('kind of goals', goals, ('rollout', OWN))} Or images [M, H, W, 3], or a dataset."
            )
        return None
    images, states = getattr(goals, "pixels", goals), getattr(goals, "states", None)
    if not isinstance(images, list | tuple) and (np.ndim(images) != 4 or not len(images)):
        raise ValueError(
            f'goals must be "rollout", "own", images [M, H, W, 3], or a dataset; got '
            f"{f'shape {np.shape(images)}' if np.ndim(images) else repr(images)}."
        )
    if not len(images):
        raise ValueError('goals has no images: give some, or goals="rollout".')
    has_states = states is not None and np.shape(states)[-1] == size
    if not (test.looks or isinstance(test, (InfoKey, Told))) and not has_states:
        raise ValueError(
            "goals that are images alone cannot be compared with observations: give success="
            '"pixels", a key of info, or a function.'
        )
    found = []
    for index in range(len(images)):
        state = np.asarray(states[index], dtype=np.float64) if has_states and states is not None else np.zeros(0)
        found.append(Moment(state, None, view.given(images[index], f"goal image {index}")))
    return found


def own_goal(observation: Any, info: dict[str, Any], view: View) -> Moment:
    """The goal that an environment has drawn for the episode that has just begun.

    Args:
        observation: What ``reset`` returned.
        info: Its info.
        view: Makes frames of images.

    Raises:
        ValueError: Neither has an image of the goal.
    """
    places = (info, observation if isinstance(observation, dict) else {})
    for key in IMAGE_KEYS:
        for place in places:
            image: Any = place.get(key)
            if np.ndim(image) >= 2:
                return Moment(np.zeros(0), None, view.given(image, f"the goal image of {view.name}"))
    raise ValueError(
        f'{view.name} shows no image of its own goal (goals="own" looks for {", ".join(IMAGE_KEYS)} in the info of '
        'reset and in the observation): take goals="rollout", or give images.'
    )
