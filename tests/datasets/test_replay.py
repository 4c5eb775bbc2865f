"""The replay buffer: what is in it is what was put there, newest episodes first to stay."""

from __future__ import annotations

import numpy as np
import pytest

from wm_agents.datasets import ReplayBuffer, concatenate

LOW, HIGH = np.float32([-1, -1]), np.float32([1, 1])


def episode(number, length):
    """Frames and actions that carry the episode's number."""
    pixels = np.full((length + 1, 16, 16, 3), number, np.uint8)
    pixels[:, 0, 0, 0] = np.arange(length + 1)
    return pixels, np.full((length, 2), number / 100, np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_the_newest_episodes_are_there_whole(seed):
    rng = np.random.default_rng(seed)
    buffer, lengths = ReplayBuffer(200, 16, LOW, HIGH), []
    for number in range(60):
        lengths.append(int(rng.integers(1, buffer.longest + 1)))
        buffer.add(*episode(number, lengths[-1]))
        data = buffer.dataset()
        assert data.frames <= 200
        assert len(buffer) >= min(number + 1, 2)
        found = []
        for start, length in zip(data.starts, data.lengths, strict=True):
            held = int(data.pixels[start, 1, 1, 0])
            pixels, actions = episode(held, lengths[held])
            assert length == lengths[held]
            np.testing.assert_array_equal(data.pixels[start : start + length + 1], pixels)
            np.testing.assert_array_equal(data.actions[start : start + length], actions)
            assert not data.actions[start + length].any(), "no action at an episode's end"
            found.append(held)
        assert sorted(found) == list(range(number + 1 - len(found), number + 1)), "the oldest made room"
        np.testing.assert_array_equal(data.episode_of(data.starts), np.arange(len(data)))


def test_it_is_a_dataset_of_which_nothing_is_held_out():
    buffer, rng = ReplayBuffer(200, 16, LOW, HIGH), np.random.default_rng(0)
    for number in range(3):
        buffer.add(*episode(number, 20))
    data = buffer.dataset("some/Task-v0")
    assert data.split()[0] is data.split()[1] is data
    window = data.windows(8, 3, 2, rng)
    assert (window.pixels[..., 1, 1, 0] == window.pixels[:, :1, 1, 1, 0]).all(), "windows stay in their episode"
    pairs = data.hindsight(64, 10, rng)
    np.testing.assert_array_equal(data.episode_of(pairs.frame), data.episode_of(pairs.goal))
    both = concatenate([data, data])
    assert len(both) == 6
    assert both.split()[0] is both
    drawn = {int(buffer.frame(rng)[1, 1, 0]) for _ in range(50)}
    assert drawn == {0, 1, 2}


def test_bad_sizes_and_episodes_are_refused():
    with pytest.raises(ValueError, match="buffer_size must be a whole number of at least 200"):
        ReplayBuffer(10, 16, LOW, HIGH)
    with pytest.raises(ValueError, match=r"takes 768 GB, and this machine has .* smaller buffer_size"):
        ReplayBuffer(10**9, 16, LOW, HIGH)
    buffer = ReplayBuffer(200, 16, LOW, HIGH)
    for length, frames in ((0, 1), (50, 51), (5, 5)):
        with pytest.raises(ValueError, match="an episode has 1 to 49 actions and one more frame"):
            buffer.add(np.zeros((frames, 16, 16, 3), np.uint8), np.zeros((length, 2), np.float32))
    assert len(buffer) == 0
