"""``learn``: what it is given, in SB3's ways and in wrong ones, and what a stop leaves behind."""

from __future__ import annotations

import pytest
from sb3_learning import make_agent, vec
from stable_baselines3.common.callbacks import BaseCallback, ProgressBarCallback

from wm_agents import OnlineConfig
from wm_agents.checkpoint import CheckpointError
from wm_agents.training import InverseDynamicsTrainingConfig, TrainingConfig


class Stop(BaseCallback):
    """Stops in the middle of an episode: by Ctrl-C, or as callbacks do."""

    def __init__(self, at, error=None):
        super().__init__()
        self.at, self.error = at, error

    def _on_step(self):
        if self.num_timesteps >= self.at and self.error:
            raise self.error
        return self.num_timesteps < self.at


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_a_stop_in_the_middle_of_an_episode_loses_no_step(error):
    agent = make_agent("gc-idm", vec(limit=50, ends=False))
    try:
        agent.learn(200, callback=Stop(95, error))
    except KeyboardInterrupt:
        assert error is KeyboardInterrupt
    assert sum(agent.replay_buffer.lengths) == agent.num_timesteps == 95
    agent.learn(15, reset_num_timesteps=False)
    assert sum(agent.replay_buffer.lengths) == agent.num_timesteps == 110


def test_steps_may_be_written_as_a_float():
    assert make_agent("gc-idm", vec()).learn(7e1).num_timesteps == 70


def test_files_of_the_replay_buffer_are_opened_as_sb3_does(tmp_path):
    agent = make_agent("gc-idm", vec()).learn(70)
    agent.save_replay_buffer(tmp_path / "replay.pkl")
    agent.load_replay_buffer(tmp_path / "replay.pkl", truncate_last_traj=False)
    assert sum(agent.replay_buffer.lengths) == 70
    with pytest.raises(CheckpointError, match=r"no file .*none.safetensors: give one that save_replay_buffer"):
        agent.load_replay_buffer(tmp_path / "none")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"total_timesteps": float("inf")}, "total_timesteps must be a whole number"),
        ({"callback": ProgressBarCallback}, "callback must be one of SB3's callbacks"),
        ({"online": {"train_freq": 50}}, "online must be of the class OnlineConfig, not dict"),
        ({"online": OnlineConfig}, "online must be of the class OnlineConfig, not type"),
        ({"data": "mine/umaze-v0"}, r"the data must be a dataset, not str: open one with datasets\.load"),
        ({"data": []}, "the data must be a dataset, not list"),
    ],
)
def test_arguments_of_a_wrong_kind_are_named(options, message):
    agent = make_agent("gc-idm", vec())
    with pytest.raises(ValueError, match=message):
        agent.learn(**{"total_timesteps": 70, **options})
    assert agent.num_timesteps == 0


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (TrainingConfig(), "is no mapping"),
        ({"world_model": TrainingConfig()}, "Did you mean 'world-model'"),
        ({3: TrainingConfig()}, "Unknown stage of training '3'"),
        (
            {"world-model": {"batch_size": 8}},
            r"training\['world-model'\] must be of the class TrainingConfig, not dict",
        ),
        ({"gc-idm": TrainingConfig()}, "must be of the class InverseDynamicsTrainingConfig"),
        ({"world-model": InverseDynamicsTrainingConfig()}, "must be of the class TrainingConfig"),
    ],
)
def test_options_of_trainings_are_checked_when_they_are_given(training, message):
    with pytest.raises(ValueError, match=message):
        OnlineConfig(training=training)
