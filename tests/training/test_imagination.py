"""GC-IDM inside the world model: what it is told there, what gradients reach, what training on it brings."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wm_agents.models import InverseDynamics, InverseDynamicsConfig
from wm_agents.models.imagined_control import imagine_control
from wm_agents.training import ImaginationTrainingConfig, encode_frames, train_in_imagination

pytest_plugins = ["trained"]


class Told(torch.nn.Module):
    """Notes what it is told, and always acts the same."""

    def __init__(self, real: Any, action: tuple[float, float]) -> None:
        super().__init__()
        self.config, self.action = real.config, action
        self.left: list[list[int]] = []

    def forward(
        self, z: torch.Tensor, before: torch.Tensor, goal: torch.Tensor, steps_remaining: torch.Tensor
    ) -> torch.Tensor:
        self.left += steps_remaining.view(-1, 2).tolist()
        return torch.tensor([self.action]).expand(len(z), -1)


def test_the_steps_left_are_counted_down_and_actions_stay_inside_the_bounds(trained: Any) -> None:
    model = trained.world_model
    told: Any = Told(trained.agent.heads["gc-idm"], (3.0, -0.5))
    z, goal = torch.randn(2, 2, 32), torch.randn(2, 32)
    past = torch.randn(2, 1, 10)
    state = model.remember(z, past)
    latents, actions = imagine_control(model, told, state, goal, torch.tensor([7, 0]), 2)
    assert told.left == [[left, 0] for left in (7, 6, 5, 4, 3, 2, 1, 1, 1, 1)]
    assert torch.equal(actions, torch.tensor([3.0, -0.5]).expand(2, 2, 5, 2))
    executed = model.normalize(torch.tensor([1.0, -0.5]).repeat(2, 1, 2, 5))
    with torch.no_grad():
        torch.testing.assert_close(latents, model.imagine(state, executed)[:, 0])


def test_gradients_pass_from_the_arrival_to_the_network_even_where_actions_are_clipped(trained: Any) -> None:
    network = copy.deepcopy(trained.agent.heads["gc-idm"]).requires_grad_(True)
    with torch.no_grad():
        network.head.bias.fill_(5.0)
    z, goal = torch.randn(3, 1, 32), torch.randn(3, 32)
    steps, past = torch.full((3,), 15), torch.zeros(3, 0, 10)
    state = trained.world_model.remember(z, past)
    latents, actions = imagine_control(trained.world_model, network, state, goal, steps, 3)
    assert (actions > 1).all()
    slope = torch.autograd.grad((latents[:, -1] - goal).square().sum(), network.head.bias)[0]
    assert (slope != 0).all()


def arrival(trained: Any, network: Any, data: Any) -> float:
    """Mean squared distance to the goal after three imagined blocks, from held-out frames."""
    latents = encode_frames(trained.world_model, data, progress=False)
    pairs = data.split(0.1)[1].hindsight(500, 15, np.random.default_rng(0), 11)
    z, goal = (latents[torch.from_numpy(frames)] for frames in (pairs.frame, pairs.goal))
    steps = torch.from_numpy(pairs.steps)
    with torch.no_grad():
        state = trained.world_model.remember(z[:, None], torch.zeros(500, 0, 10))
        way, _ = imagine_control(trained.world_model, network, state, goal, steps, 3)
    return float((way[:, -1] - goal).square().mean())


def test_training_brings_imagined_ways_nearer_to_their_goals(trained: Any, small_dataset: Any, tmp_path: Path) -> None:
    first = trained.agent.heads["gc-idm"]
    before = {name: value.clone() for name, value in first.state_dict().items()}
    training = ImaginationTrainingConfig(steps=150, batch_size=64, blocks=3, evaluate_every=75)
    run = lambda: train_in_imagination(  # noqa: E731
        trained.world_model, first, small_dataset, training, run_dir=tmp_path, progress=False
    )
    network, history = run()
    assert [step for step, _ in history["validation/imagination"]] == [75, 150]
    assert not network.training
    assert network.config.dropout == 0
    assert arrival(trained, network, small_dataset) < 0.85 * arrival(trained, first, small_dataset)
    for name, value in first.state_dict().items():
        assert torch.equal(value, before[name]), "the given network is not changed"
    again, _ = run()
    for name, value in again.state_dict().items():
        assert torch.equal(value, network.state_dict()[name]), "a finished run is loaded, not repeated"


def test_bad_input_is_refused_before_the_training(trained: Any, small_dataset: Any) -> None:
    network = trained.agent.heads["gc-idm"]
    longer = small_dataset.lengths.max() // 5 + 2
    training = ImaginationTrainingConfig(steps=1, blocks=int(longer))
    with pytest.raises(ValueError, match=rf"ways of {longer} blocks.* the longest .* has 100"):
        train_in_imagination(trained.world_model, network, small_dataset, training, progress=False)
    stranger = InverseDynamics(InverseDynamicsConfig(latent_size=7))
    with pytest.raises(ValueError, match="gc-idm head was made on another world model"):
        train_in_imagination(trained.world_model, stranger, small_dataset, progress=False)
    with pytest.raises(ValueError, match="blocks must be a whole number of at least 1"):
        ImaginationTrainingConfig(blocks=0)


def test_the_velocity_is_that_of_the_last_block(trained: Any) -> None:
    model, seen = trained.world_model, []

    class Seeing(Told):
        def forward(self, z: Any, before: Any, goal: Any, steps_remaining: Any) -> Any:
            seen.append(z - before)
            return super().forward(z, before, goal, steps_remaining)

    told: Any = Seeing(trained.agent.heads["gc-idm"], (0.1, 0.1))
    z, goal, steps = torch.randn(2, 2, 32), torch.randn(2, 32), torch.tensor([5, 5])
    imagine_control(model, told, model.remember(z, torch.randn(2, 1, 10)), goal, steps, 1)
    torch.testing.assert_close(seen[0], z[:, 1] - z[:, 0])
    imagine_control(model, told, model.remember(z[:, :1], torch.zeros(2, 0, 10)), goal, steps, 1)
    assert torch.equal(seen[2], torch.zeros(2, 32))


def test_a_network_that_acts_with_other_numbers_is_refused(trained: Any, small_dataset: Any) -> None:
    other = InverseDynamics(InverseDynamicsConfig(latent_size=32, action_size=3))
    with pytest.raises(ValueError, match="acts with 3 numbers, the world model has 2"):
        train_in_imagination(trained.world_model, other, small_dataset, progress=False)
