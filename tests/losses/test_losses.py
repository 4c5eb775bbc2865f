from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from wm_agents.losses import LOSSES, LatentBatch, LearnedLossTerm, make_losses, split_options
from wm_agents.losses.inverse_dynamics import InverseDynamicsLoss
from wm_agents.losses.prediction import Prediction
from wm_agents.losses.reconstruction import Reconstruction, shrink
from wm_agents.losses.sigreg import SIGReg
from wm_agents.losses.vicreg import VICReg
from wm_agents.types import LatentSpec


def latents(z: torch.Tensor, seed: int = 0, predicted: torch.Tensor | None = None) -> LatentBatch:
    """A batch around ``z [B, T, D]`` for terms that look at the latents alone."""
    predicted = z[:, 1:] if predicted is None else predicted
    return LatentBatch(
        z, predicted, torch.zeros(*predicted.shape[:2], 2), torch.zeros(0), torch.Generator().manual_seed(seed)
    )


def epps_pulley(x: np.ndarray, knots: int) -> float:
    """B * integral over [-3, 3] of |mean exp(itx) - exp(-t^2/2)|^2 exp(-t^2/2) dt for ``x [B]``, in float64."""
    t = np.linspace(-3, 3, knots)
    values = np.abs(np.exp(1j * np.outer(t, x)).mean(axis=1) - np.exp(-(t**2) / 2)) ** 2 * np.exp(-(t**2) / 2)
    return len(x) * float(np.sum((values[1:] + values[:-1]) / 2) * (t[1] - t[0]))


def test_prediction_is_the_mean_squared_error_to_the_next_latents():
    z = torch.tensor([[[9.0, 9.0], [1.0, 2.0], [3.0, 4.0]], [[-9.0, 9.0], [0.0, 0.0], [1.0, -1.0]]])
    predicted = torch.tensor([[[1.0, 0.0], [3.0, 5.0]], [[2.0, 0.0], [1.0, 2.0]]])
    # Squared errors: 0 4 | 0 1 | 4 0 | 0 9; the first frame has no prediction and does not count.
    assert Prediction()(latents(z, predicted=predicted)).item() == pytest.approx(18 / 8)


def test_prediction_gradient_flows_through_targets_too():
    z = torch.randn(4, 3, 2, requires_grad=True)
    predicted = torch.randn(4, 2, 2, requires_grad=True)
    Prediction()(latents(z, predicted=predicted)).backward()
    torch.testing.assert_close(z.grad[:, 1:], -predicted.grad)
    assert z.grad[:, 1:].abs().min() > 0
    assert (z.grad[:, 0] == 0).all()


@pytest.mark.parametrize(
    "x",
    [np.array([0.3, -1.2, 0.8, 2.1, -0.4]), np.array([1.5, 1.5, 1.5]), np.array([-4.0, 4.0]), np.array([0.7])],
    ids=["spread", "collapsed", "bimodal", "single"],
)
def test_sigreg_equals_numerical_integration(x):
    # In one dimension the only unit directions are +1 and -1, and the statistic is even: no randomness is left.
    value = SIGReg()(latents(torch.tensor(x, dtype=torch.float32)[:, None, None])).item()
    assert value == pytest.approx(epps_pulley(x, 33), rel=1e-4)  # the same trapezoid, unfolded to [-3, 3]
    assert value == pytest.approx(epps_pulley(x, 10_001), rel=0.02)


def test_sigreg_of_latents_at_the_origin_has_a_closed_form():
    # |1 - g|^2 g with g = exp(-t^2/2) integrates to the Gaussian integrals of g - 2 g^2 + g^3 over [-3, 3].
    gaussian = [math.sqrt(2 * math.pi / k) * math.erf(3 * math.sqrt(k / 2)) for k in (1, 2, 3)]
    exact = 64 * (gaussian[0] - 2 * gaussian[1] + gaussian[2])
    assert SIGReg()(latents(torch.zeros(64, 2, 5))).item() == pytest.approx(exact, rel=0.01)


def test_sigreg_averages_over_unit_directions_and_time():
    rng = np.random.default_rng(0)
    z = rng.normal([0.5, -1.0], [0.3, 2.0], size=(6, 3, 2))
    angles = 2 * np.pi * (np.arange(500) + 0.5) / 500
    directions = np.stack([np.cos(angles), np.sin(angles)])
    expected = np.mean([[epps_pulley(z[:, t] @ u, 33) for u in directions.T] for t in range(3)])
    value = SIGReg(directions=20_000)(latents(torch.tensor(z, dtype=torch.float32))).item()
    assert value == pytest.approx(expected, rel=0.02)


def test_sigreg_uses_the_generator_for_fresh_directions():
    z = torch.randn(16, 2, 8, generator=torch.Generator().manual_seed(1))
    batch, term = latents(z, seed=3), SIGReg()
    first, second = term(batch), term(batch)
    assert first != second
    assert term(latents(z, seed=3)) == first


@pytest.mark.parametrize("size", [64, 1024])
def test_sigreg_is_small_for_gaussian_samples_whatever_the_batch(size):
    z = torch.randn(size, 8, 16, generator=torch.Generator().manual_seed(2))
    # E|phi_B - phi|^2 = (1 - exp(-t^2)) / B, so the expected statistic is the integral of (1 - g^2) g: 1.05.
    expected = math.sqrt(2 * math.pi) * math.erf(3 / math.sqrt(2))
    expected -= math.sqrt(2 * math.pi / 3) * math.erf(3 * math.sqrt(1.5))
    assert SIGReg()(latents(z)).item() == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(
    "damage",
    [lambda z: 0.01 * z, lambda z: 3 * z, lambda z: 0.5 * z, lambda z: z + 1, lambda z: z * torch.eye(16)[0]],
    ids=["collapsed", "too wide", "too narrow", "shifted", "one dimension left"],
)
def test_sigreg_is_large_for_other_distributions_and_grows_linearly_with_the_batch(damage):
    z = torch.randn(512, 2, 16, generator=torch.Generator().manual_seed(4))
    good, bad = SIGReg()(latents(z)).item(), SIGReg()(latents(damage(z))).item()
    assert bad > 20 * good
    repeated = SIGReg()(latents(damage(z).repeat(4, 1, 1))).item()  # the same distribution, four times the batch
    assert repeated == pytest.approx(4 * bad, rel=1e-4)


@pytest.mark.parametrize("scale", [0.01, 3.0])
def test_sigreg_gradient_brings_the_spread_to_one(scale):
    generator = torch.Generator().manual_seed(5)
    z = (scale * torch.randn(128, 1, 4, generator=generator)).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.1)
    term = SIGReg(directions=64)
    for _ in range(150):
        optimizer.zero_grad()
        term(LatentBatch(z, z, z, z, generator)).backward()
        optimizer.step()
    assert z.detach().std(dim=0) == pytest.approx(np.ones((1, 4)), abs=0.2)
    assert z.detach().mean(dim=0) == pytest.approx(np.zeros((1, 4)), abs=0.2)


def test_unknown_loss_term_says_what_exists():
    with pytest.raises(ValueError, match=r"Unknown loss term 'sigregg'\. Did you mean 'sigreg'\?"):
        LOSSES.get("sigregg")


def test_vicreg_is_zero_for_white_latents_and_one_for_collapsed_ones() -> None:
    white = torch.randn(4096, 2, 4, generator=torch.Generator().manual_seed(0)) * 1.1
    assert VICReg()(latents(white)).item() == pytest.approx(0, abs=1e-3)
    # The hinge of a constant is 1 - sqrt(1e-4), and it has no covariance.
    assert VICReg()(latents(torch.ones(64, 2, 4))).item() == pytest.approx(0.99, abs=1e-6)


def test_vicreg_charges_the_covariance_of_copied_dimensions() -> None:
    x = torch.randn(50_000, 1, 1, generator=torch.Generator().manual_seed(0))
    copied = x.expand(-1, -1, 3)  # six off-diagonal covariances of 1, over D = 3
    assert VICReg(covariance=0.5)(latents(copied)).item() == pytest.approx(0.5 * 6 / 3, rel=0.03)


def test_inverse_dynamics_learns_actions_that_latents_show() -> None:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    term = InverseDynamicsLoss()
    term.prepare(LatentSpec((2,), 8, action_size=1, action_block=2), torch.zeros(1, 8, 8, 3))
    z = torch.randn(256, 3, 2, generator=generator)
    batch = LatentBatch(z, z[:, 1:], z[:, 1:] - z[:, :-1], torch.zeros(0), generator)
    first, optimizer = term(batch).item(), torch.optim.Adam(term.parameters(), lr=3e-3)
    for _ in range(200):
        optimizer.zero_grad()
        term(batch).backward()
        optimizer.step()
    assert first > 1.5  # differences of standard normals have variance 2
    assert term(batch).item() < 0.02


def test_reconstruction_is_one_for_the_mean_frame_and_falls_for_latents_that_tell() -> None:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    where = torch.randint(0, 4, (128,), generator=generator)
    frames = torch.full((128, 64, 64, 3), 40, dtype=torch.uint8)
    for frame, corner in zip(frames, where, strict=True):
        frame[16 * int(corner) : 16 * int(corner) + 16] = 200
    term = Reconstruction()
    term.prepare(LatentSpec((4,), 64, action_size=2, action_block=5), frames)
    torch.nn.init.zeros_(term.net[-1].weight)
    torch.nn.init.zeros_(term.net[-1].bias)
    z = torch.nn.functional.one_hot(where, 4).float().unsqueeze(1)
    batch = LatentBatch(z, z[:, 1:], z[:, 1:], frames.unsqueeze(1), generator)
    assert term(batch).item() == pytest.approx(1, rel=1e-4)
    optimizer = torch.optim.Adam(term.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        term(batch).backward()
        optimizer.step()
    assert term(batch).item() < 0.05


def test_shrinking_averages_over_areas() -> None:
    frames = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    frames[0, 0, 0] = 255
    assert shrink(frames)[0, :, 0, 0].tolist() == pytest.approx([0.25] * 3)
    assert shrink(frames).sum() == pytest.approx(0.75)


def test_terms_with_networks_are_told_from_those_without() -> None:
    shipped = [name for name in LOSSES if not name.startswith("test-")]
    learned = [name for name in shipped if isinstance(LOSSES.get(name)(), LearnedLossTerm)]
    assert learned == ["inverse_dynamics", "reachability", "reconstruction", "straightening"]


# Terms by name.


def test_terms_are_made_with_their_options() -> None:
    weights = {
        "sigreg": {"weight": 0.5, "directions": 7},
        "prediction": 2,
        "vicreg": {"weight": 1.0, "covariance": 0.5},
    }
    terms = make_losses(weights, {})
    assert terms["sigreg"].directions == 7
    assert terms["vicreg"].covariance == 0.5
    assert split_options(weights)["sigreg"] == (0.5, {"directions": 7})
    assert split_options({"sigreg": np.float32(0.5)})["sigreg"] == (0.5, {})


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "at least one"),
        ("sigreg", "weights by name"),
        ({"sigreg": -0.1}, "'sigreg' must be a finite number"),
        ({"sigreg": math.nan}, "finite"),
        ({"sigreg": True}, "finite"),
        ({"sigreg": "0.1"}, "finite"),
        ({"sigreg": {"directions": 3}}, "finite"),
        ({"sigreg": 0, "prediction": 0.0}, "all loss terms have the weight 0"),
        ({"prediction": 1.0, "sigregg": 0}, "Unknown loss term 'sigregg'"),
        ({3: 1.0}, "Unknown loss term '3'"),
        ({"sigregg": 1.0}, r"Unknown loss term 'sigregg'\. Did you mean 'sigreg'"),
        ({"sigreg": {"weight": 1.0, "direction": 3}}, r"option of the loss term 'sigreg' 'direction'.*'directions'"),
        ({"prediction": {"weight": 1.0, "knots": 3}}, "Known: stop_gradient, weight"),
        ({"sigreg": {"weight": 1.0, "directions": 0}}, r"SIGReg\.directions must be a whole number of at least 1"),
        ({"sigreg": {"weight": 1.0, "knots": 1}}, r"SIGReg\.knots must be a whole number of at least 2"),
        ({"vicreg": {"weight": 1.0, "covariance": -1}}, r"VICReg\.covariance must be a finite number"),
        ({"rollout": {"weight": 1.0, "alpha": "0.5"}}, r"Rollout\.alpha must be a finite number"),
    ],
)
def test_a_bad_weight_or_option_is_named(weights, message) -> None:
    with pytest.raises(ValueError, match=message):
        make_losses(weights, {})


def test_a_term_of_weight_0_is_left_out() -> None:
    assert make_losses({"prediction": 1.0, "sigreg": 0}, {}).keys() == {"prediction"}


def test_terms_that_the_kind_computes_itself_are_left_to_it() -> None:
    assert make_losses({"kl": 0.1, "sigreg": 0.1}, {"kl": 1.0}).keys() == {"sigreg"}


def test_terms_of_other_packages_are_registered_by_a_decorator() -> None:
    @LOSSES.register("test-straightness")
    def straightness(batch: LatentBatch, power: float = 1.0) -> torch.Tensor:
        return batch.z.diff(n=2, dim=1).abs().pow(power).mean()

    @LOSSES.register("test-drift")
    class Drift(torch.nn.Module):
        def __init__(self, scale: float = 1.0) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(scale))

        def forward(self, batch: LatentBatch) -> torch.Tensor:
            return self.scale * batch.z.mean()

    z = torch.tensor([[[0.0], [1.0], [5.0]]])
    terms = make_losses({"test-straightness": {"weight": 1.0, "power": 2.0}, "test-drift": 0.1}, {})
    assert terms["test-straightness"](latents(z)).item() == 9
    assert terms["test-drift"](latents(z)).item() == 2
    with pytest.raises(ValueError, match="Did you mean 'power'"):
        make_losses({"test-straightness": {"weight": 1.0, "powr": 2.0}}, {})
