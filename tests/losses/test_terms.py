"""The loss terms that shape the paths of latents: similarity, straightness, rollouts, reachability."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from wm_agents.losses import LatentBatch, make_losses
from wm_agents.losses.prediction import Prediction
from wm_agents.losses.reachability import Reachability
from wm_agents.losses.rollout import Rollout
from wm_agents.losses.straightening import Straightening
from wm_agents.losses.temporal_similarity import TemporalSimilarity
from wm_agents.losses.variable_length import VariableLength
from wm_agents.types import LatentSpec

SPEC = LatentSpec((2,), 8, action_size=1, action_block=1)


def batch_of(z: torch.Tensor, **fields: Any) -> LatentBatch:
    actions = torch.zeros(*z[:, 1:].shape[:2], 1)
    return LatentBatch(z, z[:, 1:], actions, torch.zeros(0), torch.Generator().manual_seed(0), **fields)


def path(*points: tuple[float, float]) -> torch.Tensor:
    return torch.tensor([points], dtype=torch.float32)


def plain(**options: Any) -> Straightening:
    term = Straightening(**options)
    term.prepare(SPEC, torch.zeros(0))
    return term


def test_similarity_is_the_mean_squared_step() -> None:
    z = path((0, 0), (1, 0), (1, 3))
    assert TemporalSimilarity()(batch_of(z)).item() == pytest.approx((1 + 0 + 0 + 9) / 4)


@pytest.mark.parametrize(
    ("z", "curvature"),
    [
        (path((0, 0), (1, 0), (3, 0)), 0.0),
        (path((0, 0), (1, 0), (1, 1)), 1.0),
        (path((0, 0), (1, 0), (0, 0)), 2.0),
        (path((0, 0), (1, 0), (1, 0), (2, 0), (2, 5)), 1.0),  # a step of no length has no direction
        (path((1, 1), (1, 1), (1, 1)), 0.0),
    ],
    ids=["straight", "right angle", "back", "pause", "still"],
)
def test_straightening_is_one_minus_the_cosine_of_steps_that_move(z: torch.Tensor, curvature: float) -> None:
    assert plain(head=False)(batch_of(z)).item() == pytest.approx(curvature, abs=1e-6)


def test_straightening_through_its_head_straightens_the_latents_behind_it() -> None:
    torch.manual_seed(0)
    term = plain()
    assert sum(weight.numel() for weight in term.parameters()) == 2 * 512 + 512 + 512 * 128 + 128
    z = torch.randn(8, 4, 2).requires_grad_()
    term(batch_of(z)).backward()
    assert z.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="head of the loss term 'straightening' must be true or false, not 3"):
        Straightening(head=3)  # type: ignore[arg-type]


def test_a_rollout_is_weighted_by_its_step() -> None:
    z = torch.zeros(1, 4, 2)
    batch = batch_of(z, rollout=lambda *_: torch.tensor([[[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]]))
    falling = [math.exp(-0.5 * step) for step in (1, 2, 3)]
    expected = sum(w * e for w, e in zip(falling, (1, 4, 9), strict=True)) / sum(falling)
    assert Rollout()(batch).item() == pytest.approx(expected)
    assert Rollout("linear")(batch).item() == pytest.approx((1 * 1 + 2 * 4 + 3 * 9) / 6)
    assert Rollout(alpha=0.0)(batch).item() == pytest.approx(14 / 3)
    with pytest.raises(ValueError, match="Did you mean 'linear'"):
        Rollout("liner")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="imagines nothing"):
        Rollout()(batch_of(z))


def test_variable_length_predicts_as_far_as_the_training_has_come() -> None:
    z = torch.arange(5.0).view(1, 5, 1).expand(2, -1, -1)

    def still(seen: int, blocks: int) -> torch.Tensor:  # a model in which nothing moves: k blocks ahead, it errs by k
        return z[:, seen - 1 : seen].expand(-1, blocks, -1)

    def horizons(progress: float, **options: Any) -> set[float]:
        term, batch = VariableLength(**options), batch_of(z, rollout=still, progress=progress)
        return {term(batch).item() ** 0.5 for _ in range(60)}

    assert horizons(0.0) == horizons(0.25) == {1}
    assert horizons(0.26) == {1, 2}
    assert horizons(1.0) == horizons(0.0, curriculum=False) == {1, 2, 3, 4}
    assert horizons(1.0, longest=2) == {1, 2}
    assert VariableLength(longest=4).least_frames == 5
    assert VariableLength().least_frames == 2
    for wrong in ({"longest": 0}, {"longest": 1.5}, {"curriculum": "no"}):
        with pytest.raises(ValueError, match="of the loss term 'variable_length' must be"):
            VariableLength(**wrong)


def test_fixed_targets_get_no_gradient_and_give_the_same_error() -> None:
    z = torch.randn(4, 3, 2, requires_grad=True)
    predicted = torch.randn(4, 2, 2, requires_grad=True)
    batch = dataclasses.replace(batch_of(z), predicted=predicted)
    fixed = Prediction(stop_gradient=True)(batch)
    assert fixed == Prediction()(batch)
    fixed.backward()
    assert z.grad is None
    assert predicted.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="stop_gradient of the loss term 'prediction' must be true or false"):
        make_losses({"prediction": {"weight": 1.0, "stop_gradient": "no"}}, {})


def test_reachability_is_learnt_from_latents_that_show_the_time_and_not_from_noise() -> None:
    def learnt(z: torch.Tensor) -> float:
        torch.manual_seed(0)
        term = Reachability()
        term.prepare(SPEC, torch.zeros(0))
        optimizer, losses = torch.optim.Adam(term.parameters(), lr=3e-3), []
        batch = batch_of(z)
        for _ in range(30):
            optimizer.zero_grad()
            losses.append(term(batch))
            losses[-1].backward()
            optimizer.step()
        assert losses[0].item() == pytest.approx(math.log(2), abs=0.1)
        return float(losses[-1].detach())

    generator = torch.Generator().manual_seed(1)
    place = torch.randn(24, 1, 1, generator=generator)
    clocks = torch.cat([place.expand(-1, 5, -1), torch.arange(5.0).view(1, 5, 1).expand(24, -1, -1)], dim=-1)
    assert learnt(clocks) < 0.4
    assert learnt(torch.zeros(24, 5, 2)) > 0.5
