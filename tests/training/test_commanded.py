"""Goals that recorded episodes were sent to: which they are, their pictures, and training towards them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wm_agents import datasets
from wm_agents.datasets import TrajectoryDataset
from wm_agents.envs.pusht import PushT
from wm_agents.models import InverseDynamicsConfig
from wm_agents.training import InverseDynamicsTrainingConfig, TrainingConfig, train_inverse_dynamics, train_world_model
from wm_agents.training.commanded import CommandedGoals
from wm_agents.training.gc_idm import InverseDynamicsLearner

TASK = "wm/PushT-v0"
TRAINING = InverseDynamicsTrainingConfig(steps=6, batch_size=16, evaluate_every=3, commanded=0.5)
MODEL = InverseDynamicsConfig(width=16)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrajectoryDataset, TrajectoryDataset]:
    """Episodes that were sent to goals, and episodes of play."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("data")))
        names = [
            datasets.collect(TASK, policy=policy, episodes=8, steps=steps, workers=1, progress=False).name
            for policy, steps in (("arrange", 300), ("play", 30))
        ]
        sent, played = (datasets.load(name) for name in names)
        return sent, played


@pytest.fixture(scope="module")
def world_model(data: Any) -> Any:
    return train_world_model(data[0], training=TrainingConfig(steps=2, batch_size=8), progress=False)[0]


def test_the_goals_are_those_of_the_policy_and_were_reached(data: Any) -> None:
    sent, _ = data
    starts, pictures = sent.commanded_goals()
    env = PushT(obs_type="pixels", image_size=64)
    episodes = sent.episode_of(starts)
    assert len(starts) > 4
    for row, episode in enumerate(episodes):
        goal, end = (rows[sent.starts[episode] + sent.lengths[episode]] for rows in (sent.goal_states, sent.states))
        assert env.successes(end, goal)["moderate"]
        np.testing.assert_array_equal(pictures.frames_at(np.array([row]))[0], env.render_state(goal))
    assert (np.diff(starts) > 0).all()


def test_play_is_sent_to_many_goals_and_so_to_none(data: Any) -> None:
    _, played = data
    with pytest.raises(ValueError, match=r"play-v0 was sent to a goal.*leave commanded at 0"):
        played.commanded_goals()


def test_joined_data_and_splits_keep_them(data: Any) -> None:
    sent, played = data
    starts, _ = sent.commanded_goals()
    both = datasets.concatenate([played, sent])
    np.testing.assert_array_equal(both.commanded_goals()[0], starts + played.frames)
    part = both.split(0.4)[1]
    np.testing.assert_array_equal(part.commanded_goals()[0], np.intersect1d(starts + played.frames, part.starts))
    without = datasets.concatenate([replace(played, goal_states=None), sent])
    assert np.isnan(without.goal_states[: played.frames]).all()
    np.testing.assert_array_equal(without.goal_states[played.frames :], sent.goal_states)
    np.testing.assert_array_equal(without.commanded_goals()[0], starts + played.frames)


def test_a_piece_of_an_episode_keeps_its_goals(data: Any) -> None:
    sent, _ = data
    starts, _ = sent.commanded_goals()
    first, steps = starts[0], sent.lengths[sent.episode_of(starts[0])]
    half = steps // 2
    begins, lengths = np.array([first, first + half]), np.array([half - 1, steps - half])
    pieces = replace(sent, starts=begins, lengths=lengths, episode_ids=np.arange(2))
    found, pictures = pieces.commanded_goals()
    assert found.tolist() == [first + half], "only one piece ends at the goal"
    np.testing.assert_array_equal(pictures.states[0], sent.goal_states[first])


def test_an_episode_that_was_sent_elsewhere_for_one_frame_counts_no_more(data: Any) -> None:
    sent, _ = data
    starts, _ = sent.commanded_goals()
    for change in (1.0, np.nan):
        goals = sent.goal_states.copy()
        goals[starts[1] + 3] += change
        np.testing.assert_array_equal(replace(sent, goal_states=goals).commanded_goals()[0], np.delete(starts, 1))


def test_the_id_of_the_task_may_name_its_module(data: Any) -> None:
    long = replace(data[0], env_id=f"wm_agents:{TASK}")
    starts, _ = data[0].commanded_goals()
    np.testing.assert_array_equal(long.commanded_goals()[0], starts)
    assert len(datasets.concatenate([long, data[1]])) == 16, "they are of one task"


def test_data_that_know_nothing_of_goals_are_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="leave commanded at 0"):
        replace(data[0], goal_states=None).commanded_goals()
    with pytest.raises(ValueError, match="leave commanded at 0"):
        replace(data[0], env_id="Somewhere-v0").commanded_goals()
    bare = np.zeros((len(data[0].states), 0))
    for goals in (data[0].goal_states, bare):  # goals without states to compare with
        with pytest.raises(ValueError, match="leave commanded at 0"):
            replace(data[0], states=bare, goal_states=goals).commanded_goals()


def test_chosen_pairs_get_the_goal_of_their_own_episode(data: Any, world_model: Any) -> None:
    both = datasets.concatenate([data[1], data[0]])
    goals = CommandedGoals(world_model, both, square_symmetry=True)
    train, _ = both.split(0.2)
    rng = np.random.default_rng(0)
    pairs = train.hindsight(400, 200, rng)
    chosen, row, left = goals.draw(train, pairs, 1.0, rng)
    start = train.starts[train.episode_of(pairs.frame)]
    np.testing.assert_array_equal(np.isin(start, goals.starts).nonzero()[0], chosen)
    np.testing.assert_array_equal(goals.starts[row], start[chosen])
    assert goals.latents.shape == (8, len(goals.starts), world_model.spec.feature_size)
    ends = pairs.frame[chosen] + left
    assert np.isin(ends, train.starts + train.lengths).all()
    assert not len(goals.draw(train, pairs, 0.0, rng)[0])


def test_it_trains_and_resumes(data: Any, world_model: Any, tmp_path: Path) -> None:
    sent = data[0]
    whole, _ = train_inverse_dynamics(world_model, sent, MODEL, TRAINING, progress=False)
    options: dict[str, Any] = {"run_dir": tmp_path, "progress": False}
    train_inverse_dynamics(world_model, sent, MODEL, TRAINING, callback=lambda _, step: step < 3, **options)
    resumed, _ = train_inverse_dynamics(world_model, sent, MODEL, TRAINING, **options)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0)


def test_the_goal_in_the_loss_is_the_one_that_was_sent(data: Any, world_model: Any) -> None:
    """With every goal replaced, the loss does not depend on later frames: it does on the goals' own latents."""
    sent = data[0]._select(data[0].episode_of(data[0].commanded_goals()[0]))
    training = replace(TRAINING, commanded=1.0, unknown_fraction=1.0, hidden_past=1.0)
    learner = InverseDynamicsLearner(world_model, sent, replace(MODEL, dropout=0.0), training, progress=False)
    learner.module = learner.build()
    torch.nn.init.normal_(learner.result.head.weight)
    assert learner.goals is not None

    def loss() -> float:
        return learner.loss(sent, 64, np.random.default_rng(0), torch.Generator())[0].item()

    before = loss()
    learner.goals.latents = learner.goals.latents + 1.0
    assert abs(loss() - before) > 1e-4


def test_bad_options(data: Any, world_model: Any) -> None:
    with pytest.raises(ValueError, match="commanded"):
        InverseDynamicsTrainingConfig(commanded=1.5)
    with pytest.raises(ValueError, match="leave commanded at 0"):
        train_inverse_dynamics(world_model, data[1], MODEL, TRAINING, progress=False)
