"""Probes of latents that are made up, so that it is known what can be read from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wm_agents.training.probe import (
    WIDE,
    is_angle,
    is_velocity,
    linear_probe_r2,
    mlp_probe_r2,
    probe_targets,
    standardized,
)


def sides(z: np.ndarray, states: np.ndarray) -> tuple[torch.Tensor, np.ndarray, torch.Tensor, np.ndarray]:
    """Two thirds of the rows to fit to, and a third to measure on."""
    cut = 2 * len(z) // 3
    (fit_z, test_z), (fit, test) = (standardized(rows[:cut], rows[cut:]) for rows in (z.astype(np.float32), states))
    return torch.from_numpy(fit_z), fit, torch.from_numpy(test_z), test


def episodes(rows: int, count: int = 20) -> np.ndarray:
    return np.arange(rows) * count // rows


def test_an_mlp_reads_what_a_linear_probe_misses() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(1200, 3))
    product, radius = z[:, 0] * z[:, 1], np.hypot(z[:, 0], z[:, 2])
    states = np.stack([product, radius, z[:, 1] - z[:, 2]], axis=1)
    data = sides(z, states + 0.2 * rng.normal(size=states.shape))
    linear, mlp = linear_probe_r2(*data), mlp_probe_r2(*data, episodes(800))
    assert (linear[:2] < 0.05).all()
    assert (mlp[:2] > 0.8).all()
    assert linear[2] > 0.95
    assert mlp[2] > 0.93


@pytest.mark.parametrize("rows", [150, 1500])
def test_an_mlp_finds_nothing_in_noise(rows: int) -> None:
    rng = np.random.default_rng(1)
    data = sides(rng.normal(size=(rows, 8)), rng.normal(size=(rows, 5)))
    r2 = mlp_probe_r2(*data, episodes(len(data[0])))
    assert (r2 < 0.05).all()
    assert (r2 > -0.1).all()


def test_the_same_seed_gives_the_same_r2_and_the_global_seed_is_left_alone() -> None:
    z = np.random.default_rng(2).normal(size=(300, 3))
    data, before = sides(z, z[:, :1] * z[:, 1:2]), torch.get_rng_state()
    first, again, other = (mlp_probe_r2(*data, episodes(200), seed) for seed in (1, 1, 2))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), before)


def test_what_does_not_vary_gives_zero() -> None:
    z = np.random.default_rng(3).normal(size=(300, 3))
    z[:, 2] = 7.1
    states = np.stack([z[:, 0], np.full(300, 3.3)], axis=1)
    r2 = mlp_probe_r2(*sides(z, states), episodes(200))
    assert r2[0] > 0.9
    assert r2[1] == 0


@pytest.mark.parametrize("rows", [1, 4, 30])
def test_few_rows_of_one_episode_are_no_error(rows: int) -> None:
    z = np.random.default_rng(4).normal(size=(3 * rows, 2))
    data = sides(z, z[:, :1])
    r2 = mlp_probe_r2(*data, np.zeros(len(data[0]), int))
    assert r2.shape == (1,)
    assert np.isfinite(r2).all()


def test_wide_features_are_read_from_their_principal_components() -> None:
    rng = np.random.default_rng(5)
    hidden = rng.normal(size=(900, 2))
    wide = np.concatenate([hidden] * (WIDE // 2 + 1), axis=1) + 0.1 * rng.normal(size=(900, WIDE + 2))
    assert mlp_probe_r2(*sides(wide, hidden[:, :1] * hidden[:, 1:]), episodes(600))[0] > 0.7


def test_columns_are_standardized_by_the_rows_to_fit_to() -> None:
    fit, test = np.array([[1.0, 5, 2e-9], [3, 5, 0]]), np.array([[5.0, 6, 1e-9]])
    fit, test = standardized(fit, test)
    np.testing.assert_allclose(fit, [[-1, 0, 1], [1, 0, -1]])
    np.testing.assert_allclose(test, [[3, 0, 0]], atol=1e-9)


def test_angles_and_velocities_are_known_by_their_names() -> None:
    assert all(map(is_velocity, ("vx", "vz", "v_block_angle")))
    assert not any(map(is_velocity, ("x", "valve_angle", "volume")))
    assert all(map(is_angle, ("angle", "valve_angle")))
    assert not any(map(is_angle, ("triangle", "v_block_angle", "angle_x")))
    turned, names = probe_targets(np.array([[0.5, 2.0]]), ("angle", "v_angle"))
    np.testing.assert_allclose(turned, [[np.sin(0.5), np.cos(0.5), 2.0]])
    assert names == ["angle_sin", "angle_cos", "v_angle"]
