"""``agent.imagine``: pictures of what a world model imagines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wm_agents import MPC
from wm_agents.agents import WorldModelAgent
from wm_agents.agents.imagining import as_vectors
from wm_agents.models import LeWM, Viewer, ViewerConfig

SEARCH: dict[str, Any] = {"planner": "cem", "horizon": 2, "samples": 4, "elites": 2, "iterations": 1, "device": "cpu"}


@pytest.fixture
def agent(world_model: Callable[..., LeWM]) -> WorldModelAgent:
    model = world_model()
    torch.manual_seed(1)
    viewer = Viewer(ViewerConfig(latent_size=6, image_size=16, width=2)).eval()
    viewer.stamp(model)
    return MPC(model, heads=[viewer], **SEARCH)


def frames(n: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)


def plans(n: int = 2, steps: int = 6) -> np.ndarray:
    return np.random.default_rng(1).uniform(-0.5, 0.5, (n, steps, 2))


def test_one_picture_of_now_and_one_after_each_block(agent: WorldModelAgent) -> None:
    many = agent.imagine({"pixels": frames(), "goal_pixels": frames()}, plans())
    assert many.shape == (2, 1 + 6 // 3, 16, 16, 3)
    assert many.dtype == np.uint8
    for row in range(2):
        one = agent.imagine({"pixels": frames()[row]}, plans()[row])
        np.testing.assert_allclose(one.astype(int), many[row].astype(int), atol=1)
    model, viewer = agent.world_model, agent.heads["viewer"]
    with torch.no_grad():
        now = viewer(model.features(model.encode(torch.from_numpy(frames()))))
    np.testing.assert_array_equal(many[:, 0], now.numpy())
    assert (many[:, 1:] != many[:, :1]).any()


def test_pictures_depend_on_the_actions_which_are_clipped_as_the_agents_are(agent: WorldModelAgent) -> None:
    observation = {"pixels": frames()}
    assert (agent.imagine(observation, plans()) != agent.imagine(observation, -plans())).any()
    high = agent.world_model.action_high.numpy()
    np.testing.assert_array_equal(
        agent.imagine(observation, plans() + 100), agent.imagine(observation, np.broadcast_to(high, (2, 6, 2)))
    )


def test_the_callers_modes_and_the_agents_stay_as_they_were(agent: WorldModelAgent) -> None:
    agent.world_model.train()
    before = agent.imagine({"pixels": frames()}, plans())
    assert agent.world_model.training
    with torch.inference_mode():
        np.testing.assert_array_equal(agent.imagine({"pixels": frames()}, plans()), before)


def test_the_viewer_is_saved_with_the_agent(agent: WorldModelAgent, tmp_path: Path) -> None:
    agent.save(tmp_path / "agent.zip")
    again = MPC.load(tmp_path / "agent.zip", device="cpu")
    np.testing.assert_array_equal(
        again.imagine({"pixels": frames()}, plans()), agent.imagine({"pixels": frames()}, plans())
    )


@pytest.mark.parametrize(
    ("pixels", "actions", "said"),
    [
        (frames(), plans(steps=4), r"L is a multiple of 3, the steps of an action block; got \[2, 4, 2\] for 2 images"),
        (frames(), plans(n=3), r"got \[3, 6, 2\] for 2 images"),
        (frames(), plans()[0], r"actions must be"),
        (frames(), plans()[:, :0], r"L is a multiple of 3"),
        (frames(), np.full((2, 6, 2), np.nan), "actions must be finite numbers"),
        (frames(), np.zeros((2, 6, 3)), r"must be finite numbers \[..., L, 2\], got \[2, 6, 3\]"),
        (frames(), [[[0.1, 0.2]], [[0.3]]], "actions must be an array of numbers"),
        (frames(), "left", "actions must be an array of numbers"),
        (None, plans(), r"pixels must be an image \[H, W, 3\] or images"),
        (frames()[..., 0][0], plans(), r"pixels must be an image .* not \[16, 16\]"),
        (frames().astype(float), plans(), "pixels must be uint8"),
        (np.zeros((2, 8, 8, 3), np.uint8), plans(), r"images are \(8, 8, 3\), the world model was trained on"),
    ],
)
def test_what_does_not_fit(agent: WorldModelAgent, pixels: Any, actions: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        agent.imagine({"pixels": pixels}, actions)


def test_an_agent_without_a_viewer_says_how_to_get_one(world_model: Callable[..., LeWM]) -> None:
    with pytest.raises(ValueError, match=r"needs the head 'viewer': make one \(wm_agents.train_head\('viewer'"):
        MPC(world_model(), **SEARCH).imagine({"pixels": frames()}, plans())
    with pytest.raises(ValueError, match='must be a dict with "pixels"'):
        MPC(world_model(), heads=[Viewer(ViewerConfig(latent_size=6))], **SEARCH).imagine(frames(), plans())  # type: ignore[arg-type]


def test_discrete_actions_are_numbers(world_model: Callable[..., LeWM]) -> None:
    one = world_model(action_size=3, choices=(3,))
    for given in (np.array([[0, 2, 1]]), np.array([[[0], [2], [1]]]), np.array([[0.0, 2.0, 1.0]])):
        np.testing.assert_array_equal(as_vectors(given, one)[0], np.eye(3)[[0, 2, 1]])
    two = world_model(action_size=5, choices=(3, 2))
    np.testing.assert_array_equal(as_vectors(np.array([[[2, 1]]]), two)[0, 0], [0, 0, 1, 0, 1])
    for wrong in (np.array([[3]]), np.array([[-1]]), np.array([[0.5]])):
        with pytest.raises(ValueError, match=r"whole numbers below \[3\], one for each choice"):
            as_vectors(wrong, one)


def test_pictures_have_the_size_of_the_images() -> None:
    for size in (16, 64, 100):
        viewer = Viewer(ViewerConfig(latent_size=3, image_size=size, width=2))
        viewer.measure(torch.full((4, size, size, 3), 51, dtype=torch.uint8))
        assert viewer(torch.zeros(2, 5, 3)).shape == (2, 5, size, size, 3)
        assert viewer.mean.unique() == pytest.approx(0.2, abs=1e-6)


def test_a_plan_is_drawn_as_the_world_model_imagines_it(agent: WorldModelAgent) -> None:
    observation = {"pixels": frames(), "goal_pixels": frames()[::-1].copy()}
    _, state = agent.predict(observation, state=None)
    model, viewer = agent.world_model, agent.heads["viewer"]
    with torch.no_grad():
        latents = model.encode(torch.from_numpy(frames())).unsqueeze(1)
        blocks = torch.from_numpy(state["own.plan"][:, :1])
        imagined = model.imagine(model.remember(latents, blocks[:, 0, :0]), blocks)[:, 0]
        wanted = viewer(model.features(imagined)).numpy()
    for row in range(2):
        np.testing.assert_allclose(agent.imagined_plan(state, row).astype(int), wanted[row].astype(int), atol=1)
    with pytest.raises(ValueError, match="state that predict"):
        agent.imagined_plan(state, 2)
    with pytest.raises(ValueError, match="state that predict"):
        agent.imagined_plan(tuple(state))


def test_a_plan_gets_shorter_while_it_is_executed(world_model: Callable[..., LeWM], agent: WorldModelAgent) -> None:
    slow = MPC(agent.world_model, heads=[agent.heads["viewer"]], receding_horizon=2, **SEARCH)
    observation, state, left = {"pixels": frames(), "goal_pixels": frames()}, None, []
    for _ in range(7):  # blocks have three steps
        _, state = slow.predict(observation, state=state)
        left.append(len(slow.imagined_plan(state)))
    assert left == [2, 2, 2, 1, 1, 1, 2]
