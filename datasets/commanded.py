"""Goals that recorded episodes were sent to, in contrast to frames that they happen to reach."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_agents.datasets.episodes import open_env

if TYPE_CHECKING:
    from wm_agents.datasets.dataset import TrajectoryDataset


def commanded_goals(dataset: TrajectoryDataset) -> tuple[np.ndarray, TrajectoryDataset]:
    """See :meth:`wm_agents.datasets.TrajectoryDataset.commanded_goals`."""
    goals = np.full((len(dataset), 1), np.nan) if dataset.goal_states is None else dataset.goal_states
    sent = np.flatnonzero(np.isfinite(goals).all(axis=1))
    reached, pictures = [], []
    if dataset.env_id.startswith("wm/") and len(sent):
        with contextlib.closing(open_env(dataset.env_id, dataset.pixels.shape[1])) as env:
            task: Any = env.unwrapped
            for episode in sent:
                end = dataset.states[dataset.starts[episode] + dataset.lengths[episode]]
                if task.successes(end, goals[episode])["moderate"]:
                    reached.append(episode)
                    pictures.append(task.render_state(goals[episode]))
    if not reached:
        raise ValueError(
            f"no episode of {dataset.name} was sent to a goal and reached it: leave commanded at 0, or collect with a "
            "policy that is sent to goals, such as 'arrange' in PushT."
        )
    count = len(reached)
    shown = replace(
        dataset,
        name=f"goals of {dataset.name}",
        pixels=np.stack(pictures),
        actions=np.zeros((count, dataset.actions.shape[1]), np.float32),
        states=goals[reached],
        goal_states=None,
        starts=np.arange(count),
        lengths=np.zeros(count, np.int64),
        episode_ids=np.arange(count),
    )
    return dataset.starts[reached], shown
