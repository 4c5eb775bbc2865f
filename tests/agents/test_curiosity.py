"""Exploration by disagreement, and goals at the edge of what has been seen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from dot_goals import DotGoals
from sb3_learning import FAST, SHAPE, make_agent, vec
from short_runs import assert_same_weights

from wm_agents import GCIDM, OnlineConfig
from wm_agents.agents.curiosity import curious_policy, rare_frame
from wm_agents.agents.exploration import CURIOUS, GIVEN, OWN, RANDOM, Explorer
from wm_agents.models import ActionStatistics, Disagreement, DisagreementConfig, LeWM
from wm_agents.training import DisagreementTrainingConfig, train_head

CURIOSITY = dataclasses.replace(
    FAST,
    random_episodes=0.1,
    own_goals=0.1,
    curious_episodes=0.8,
    training={**FAST.training, "disagreement": DisagreementTrainingConfig(batch_size=8)},
)


class Planted(Disagreement):
    """Disagrees about the actions that have a large entry ``entry``, and about nothing else."""

    entry, sign = 0, 1.0

    def disagreement(self, z, block):
        return self.sign * block[..., self.entry] + 0 * z.sum(-1)


@pytest.mark.parametrize(("entry", "sign"), [(0, 1.0), (0, -1.0), (1, 1.0), (1, -1.0)])
def test_it_goes_where_the_ensemble_disagrees(entry, sign):
    torch.manual_seed(0)
    bounds = ActionStatistics(*np.float32([[-1, -1], [1, 1], [0, 0], [0.5, 0.5]]))
    model = LeWM(dataclasses.replace(SHAPE, image_size=16, action_size=2, action_block=1), bounds).eval()
    ensemble = Planted(DisagreementConfig(latent_size=8, block_size=2))
    ensemble.entry, ensemble.sign = entry, sign
    policy = curious_policy(model, ensemble, DotGoals().action_space, np.random.default_rng(0))
    images = np.zeros((3, 16, 16, 3), np.uint8)
    chosen = []
    for policy.seed in range(10):
        actions, _ = policy.predict({"pixels": images, "goal_pixels": images}, None)
        chosen.append(sign * actions[:, entry])
    assert np.mean(chosen) > 0.4


def test_the_first_action_counts_too():
    torch.manual_seed(0)
    model = LeWM(
        dataclasses.replace(SHAPE, image_size=16, action_size=2, action_block=1),
        ActionStatistics(*np.float32([[-1, -1], [1, 1], [0, 0], [0.5, 0.5]])),
    ).eval()
    ensemble = Disagreement(DisagreementConfig(latent_size=8, block_size=2))
    controller = curious_policy(model, ensemble, DotGoals().action_space, np.random.default_rng(0)).controller
    z = model.encode(torch.randint(0, 256, (1, 1, 16, 16, 3), dtype=torch.uint8))
    state, actions = model.remember(z, torch.zeros(1, 0, 2)), torch.randn(1, 4, 1, 2)
    with torch.no_grad():
        expected = -ensemble.disagreement(z.expand(1, 4, 8), actions[:, :, 0])
        torch.testing.assert_close(controller.cost(state, z[:, 0])(actions), expected)


def test_members_agree_where_there_are_data():
    torch.manual_seed(0)
    agent = make_agent("gc-idm", vec("box")).learn(130)
    model, data = agent.world_model, agent.replay_buffer.dataset()
    training = DisagreementTrainingConfig(steps=300, batch_size=32, evaluate_every=300)
    ensemble, _ = train_head("disagreement", model, data, training=training, progress=False)
    start = data.segments(64, 2, np.random.default_rng(0))
    with torch.no_grad():
        z = model.encode(torch.from_numpy(data.pixels[start]))
        blocks = model.normalize(torch.from_numpy(data.actions[start[:, None] + np.arange(2)]).flatten(1))
        known, unknown = (ensemble.disagreement(z, factor * blocks).mean() for factor in (1, 6))
    assert known < 0.2 * unknown


@pytest.mark.parametrize("actions", ["box", "discrete", "multi"])
def test_curious_episodes_are_played_and_stored(actions):
    agent = make_agent("gc-idm", vec(actions, 2))
    kinds = []
    begin = Explorer.begin

    def noted(self, observation, rows, untrained):
        begin(self, observation, rows, untrained)
        kinds.extend(self.kind[rows])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Explorer, "begin", noted)
        agent.learn(200, online=CURIOSITY)
    assert agent.replay_buffer.dataset().lengths.sum() == 200
    first = next(index for index, kind in enumerate(kinds) if kind != RANDOM)
    assert first > 3, "an untrained agent acts at random"
    assert kinds[first:].count(CURIOUS) > 2 * (kinds[first:].count(GIVEN) + kinds[first:].count(OWN))
    assert set(agent.heads) == {"gc-idm", "disagreement"}
    assert agent.trainer.steps["disagreement"] > 0


def test_a_curious_agent_goes_on_after_save_and_load(tmp_path):
    agent = make_agent("gc-idm", vec("box")).learn(130, online=CURIOSITY)
    agent.save(tmp_path / "agent")
    agent.save_replay_buffer(tmp_path / "replay")
    again = GCIDM.load(tmp_path / "agent", env=vec("box"), device="cpu")
    assert_same_weights(again.heads["disagreement"], agent.heads["disagreement"])
    again.load_replay_buffer(tmp_path / "replay")
    again.learn(70, reset_num_timesteps=False, online=CURIOSITY)
    assert again.provenance["online"]["gradient_steps"]["disagreement"] > 40, "the last training takes 40"
    with pytest.warns(UserWarning, match="does not act with are dropped: disagreement"):
        again.learn(70, reset_num_timesteps=False, online=FAST)
    assert set(again.heads) == {"gc-idm"}


def test_the_same_seed_explores_the_same():
    one, other = (make_agent("gc-idm", vec("box"), seed=3).learn(130, online=CURIOSITY) for _ in range(2))
    np.testing.assert_array_equal(one.replay_buffer.actions, other.replay_buffer.actions)


def test_an_agent_that_has_no_ensemble_yet_begins_at_random():
    agent = make_agent("gc-idm", vec("box")).learn(70)
    agent.learn(70, online=dataclasses.replace(CURIOSITY, learning_starts=0, random_episodes=0, own_goals=0))
    assert "disagreement" in agent.heads


def test_rare_frames_are_those_with_few_others_like_them():
    torch.manual_seed(0)
    bounds = ActionStatistics(*np.float32([[-1, -1], [1, 1], [0, 0], [1, 1]]))
    model = LeWM(dataclasses.replace(SHAPE, image_size=16, action_size=2), bounds).eval()
    rng = np.random.default_rng(0)
    common = np.stack([DotGoals._image(np.array([3.0, 3.0])) for _ in range(95)])
    rare = np.stack([DotGoals._image(np.array([4.0 + 2 * i, 12.0])) for i in range(5)])
    frames = np.concatenate([common, rare])
    drawn = np.stack([rare_frame(model, frames[rng.permutation(100)], rng) for _ in range(20)])
    share = np.mean([any(np.array_equal(frame, one) for one in rare) for frame in drawn])
    assert share > 0.3, "5 of the 10 rarest, and 5 of 100"
    assert rare_frame(model, frames[:1], rng).shape == (16, 16, 3)
    agent = make_agent("gc-idm", vec("box"))
    agent.learn(130, online=dataclasses.replace(FAST, goal_choice="rare", own_goals=0.8, random_episodes=0))
    assert agent.replay_buffer.dataset().lengths.sum() == 130


def test_bad_options_are_refused():
    for options in ({"curious_episodes": -0.1}, {"curious_episodes": 0.7}):
        with pytest.raises(ValueError, match="curious_episodes"):
            OnlineConfig(**options)
    with pytest.raises(ValueError, match=r"Unknown goal_choice 'rarest'\. Did you mean 'rare'"):
        OnlineConfig(goal_choice="rarest")
    with pytest.raises(ValueError, match="members must be"):
        DisagreementConfig(members=1)
