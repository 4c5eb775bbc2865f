"""``action, _ = agent.predict(observation)``, the loop that everybody writes, acts as one that hands the state back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sb3_agents import Make

pytest_plugins = ["trained", "sb3_agents"]


def rows(batch: dict[str, np.ndarray], chosen: Any) -> dict[str, np.ndarray]:
    return {key: value[chosen] for key, value in batch.items()}


def carried(agent: Any, frames: list[dict[str, np.ndarray]]) -> np.ndarray:
    actions, state = [], None
    for observation in frames:
        action, state = agent.predict(observation, state=state)
        actions.append(action)
    agent.policy.recollection.clear()
    return np.stack(actions)


def test_a_bare_loop_acts_as_one_that_carries_the_state(make: Make, frames: Any) -> None:
    agent = make()
    wanted = carried(agent, frames)
    bare = np.stack([agent.predict(observation)[0] for observation in frames])
    np.testing.assert_allclose(bare, wanted, atol=1e-5)
    single = np.stack([make().predict(rows(frames[0], 1))[0]])
    np.testing.assert_allclose(single[0], wanted[0, 1], atol=1e-3)


def test_environments_stepped_in_turn_keep_apart(make: Make, frames: Any) -> None:
    agent = make()
    wanted = carried(agent, frames)
    in_turn = [[agent.predict(rows(observation, row))[0] for row in (2, 0, 1)] for observation in frames]
    np.testing.assert_allclose(np.array(in_turn)[:, [1, 2, 0]], wanted, atol=1e-3)


def test_an_environment_that_leaves_the_batch_does_not_disturb_the_others(make: Make, frames: Any) -> None:
    agent = make()
    wanted = carried(agent, frames)
    for time, observation in enumerate(frames):
        kept = [0, 1, 2] if time < 4 else [0, 2]
        actions, _ = agent.predict(rows(observation, kept))
        np.testing.assert_allclose(actions, wanted[time, kept], atol=1e-3)


def test_the_same_frame_again_gives_the_same_action(make: Make, frames: Any) -> None:
    agent = make()
    for observation in frames[:4]:
        first, _ = agent.predict(observation)
        again, _ = agent.predict(observation)
        np.testing.assert_array_equal(first, again)


def test_environments_with_one_goal_are_known_by_their_place(make: Make, frames: Any) -> None:
    goal = np.repeat(frames[0]["goal_pixels"][:1], 3, axis=0)
    together = [{**observation, "goal_pixels": goal} for observation in frames]
    agent = make()
    wanted = carried(agent, together)
    np.testing.assert_allclose(np.stack([agent.predict(one)[0] for one in together]), wanted, atol=1e-5)


def begun(agent: Any, observation: dict[str, np.ndarray]) -> np.ndarray:
    return agent.predict(observation)[1]["elapsed"] == 1


@pytest.mark.parametrize("how", ["episode_start", "None", "state between", "seed", "jump"])
def test_what_begins_a_new_episode(how: str, make: Make, frames: Any) -> None:
    agent = make()
    for observation in frames[:10]:
        _, state = agent.predict(observation)
    assert not begun(agent, frames[10]).any()
    if how == "episode_start":
        _, memory = agent.predict(frames[11], episode_start=np.array([True, False, True]))
        assert (memory["elapsed"] == 1).tolist() == [True, False, True]
    elif how == "None":
        going_on = agent.predict(frames[11], None, np.zeros(3, dtype=bool))[1]
        assert (going_on["elapsed"] == 12).all(), "nothing is marked"
        assert (agent.predict(frames[11], None)[1]["elapsed"] == 1).all()
        assert begun(agent, frames[12]).all(), "what was before is forgotten"
    elif how == "state between":
        agent.predict(frames[10], state=state)
        assert begun(agent, frames[11]).all()
    elif how == "seed":
        agent.set_random_seed(1)
        assert begun(agent, frames[11]).all()
    else:
        black = {**frames[11], "pixels": np.zeros_like(frames[11]["pixels"])}
        black["pixels"][1] = frames[11]["pixels"][1]
        assert begun(agent, black).tolist() == [True, False, True], "a frame far from the last one"


def test_the_memory_of_the_past_does_not_grow(make: Make, frames: Any) -> None:
    agent = make()
    for shift in range(40):
        changed = {**frames[0], "goal_pixels": frames[0]["goal_pixels"] ^ np.uint8(shift)}
        agent.predict(changed)
    assert len(agent.policy.recollection._rows) <= 3 * 17
