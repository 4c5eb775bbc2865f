"""What can be read from single latents and from pairs of them: the true state, distance, and time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from wm_agents.evaluation.diagnosis.material import Material
from wm_agents.evaluation.diagnosis.statistics import (
    effective_dimension,
    eigenvalues,
    normality,
    rank_correlation,
    straightness,
    uniformity,
)
from wm_agents.training.probe import is_velocity, linear_probe_r2, mlp_probe_r2, probe_targets, standardized

STEPS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 70, 100, 150, 200, 300, 500)
"""Environment steps between frames whose latent distance is measured."""
SATURATED = 0.95
"""Share of the distance of unrelated frames beyond which latents tell near from far no more."""


def describe(material: Material) -> dict[str, Any]:
    """The shape of the cloud of latents, and of the paths through it."""
    z, rng = material.latents[material.frames(material.test, 2000)], material.rng(2)
    values = eigenvalues(z)
    first, blocks = material.starts(500, 2, 3)
    path = material.latents[first[:, None] + material.block * np.arange(blocks + 1)]
    moves = (path[:, 1] - path[:, 0]).astype(np.float64)
    return {
        "size": z.shape[1],
        "std": float(z.std(axis=0).mean()),
        "effective_dimension": effective_dimension(values),
        "transition_dimension": effective_dimension(eigenvalues(moves)),
        "eigenvalues": values.tolist(),
        "normality": normality(z, rng),
        "uniformity": uniformity(z, rng),
        "straightness": straightness(path) if blocks == 2 else None,
    }


def probe(material: Material) -> dict[str, dict[str, float | None]]:
    """R2 of probes of each variable of the state, at most 1 and at least 0.

    ``linear`` and ``mlp`` are on held-out episodes, ``fit`` is the linear probe's on the episodes that it was fitted
    to: if that is much higher, there are too few episodes to tell. All three are None for a variable that does not vary
    or is NaN in some frame.
    """
    if not material.has_states:
        return {}
    rows = [material.frames(data, most) for data, most in ((material.fit, 6000), (material.test, 3000))]
    names = material.test.state_names
    (fit, targets), (test, _) = (probe_targets(material.test.states[part], names) for part in rows)
    found: dict[str, dict[str, float | None]] = {name: {"linear": None, "mlp": None, "fit": None} for name in targets}
    varies = (fit.std(axis=0) > 1e-6) & (test.std(axis=0) > 1e-3 * fit.std(axis=0))  # neither where there is a NaN
    if not varies.any():
        return found
    fit, test = standardized(fit[:, varies], test[:, varies])
    z, held = (torch.from_numpy(part) for part in standardized(*(material.latents[part] for part in rows)))
    scores = (
        linear_probe_r2(z, fit, held, test),
        mlp_probe_r2(z, fit, held, test, material.fit.episode_of(rows[0]), material.seed),
        linear_probe_r2(z, fit, z, fit),
    )
    for name, r2 in zip(np.array(targets)[varies].tolist(), np.stack(scores, axis=1).clip(0, 1).tolist(), strict=True):
        found[name] = dict(zip(("linear", "mlp", "fit"), r2, strict=True))
    return found


def over_time(material: Material) -> dict[str, Any]:
    """Latent distance of frames some steps apart, as a share of that of frames of different episodes."""
    data, rng = material.test, material.rng(4)
    frames = material.frames(data, 4000)
    one, other = rng.choice(frames, (2, 4000))
    apart = data.episode_of(one) != data.episode_of(other) if len(data) > 1 else one != other
    unrelated = float(_distance(material, one[apart], other[apart]).mean())
    steps = [k for k in STEPS if k <= data.lengths.max()]
    curve = []
    for k in steps:
        first = data.segments(1000, k, rng)
        curve.append(float(_distance(material, first, first + k).mean()) / max(unrelated, 1e-12))
    saturated = next((k for k, value in zip(steps, curve, strict=True) if value >= SATURATED), None)
    return {
        "steps": steps,
        "distance": curve,
        "unrelated": unrelated,
        "grows_until": steps[_rising(curve)],
        "saturated_at": saturated,
    }


def over_truth(material: Material) -> dict[str, Any] | None:
    """Latent distance against the true one, on pairs of frames near and far; None without states that are known."""
    if not material.has_states:
        return None
    data, rng = material.test, material.rng(5)
    near = data.hindsight(2000, int(data.lengths.max()), rng)
    one = np.concatenate([near.frame, rng.choice(data.frame_indices(), 1000)])
    other = np.concatenate([near.goal, rng.choice(data.frame_indices(), 1000)])
    true, unit = true_distance(material, one, other)
    known = np.isfinite(true)
    if not known.any():
        return None
    true, latent = true[known], _distance(material, one, other)[known]
    parts = [part for part in np.array_split(np.argsort(true, kind="stable"), 12) if len(part)]
    at, mean = ([float(values[part].mean()) for part in parts] for values in (true, latent))
    return {
        "unit": unit,
        "true": at,
        "latent": mean,
        "spearman": rank_correlation(true, latent),
        "grows_until": at[_rising(mean)],
        "farthest": at[-1],
    }


def true_distance(material: Material, one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, str]:
    """How far the true states of frames are apart ``[N]``, and in which unit.

    The task says so where there is one; otherwise it is the distance of standardised states without velocities.
    """
    states, task = material.test.states, material.task
    if task is not None:
        found = task.goal_distance(task.achieved_goal(states[one]), task.achieved_goal(states[other]))
        return np.asarray(found, dtype=np.float64), "the task's goal distance"
    turned, names = probe_targets(states[np.concatenate([one, other])], material.test.state_names)
    turned = turned[:, [not is_velocity(name) for name in names]]
    turned = turned / np.maximum(turned.std(axis=0), 1e-9)
    return np.linalg.norm(turned[: len(one)] - turned[len(one) :], axis=1), "standard deviations of the state"


def predict(material: Material, most: int = 10) -> list[dict[str, Any]]:
    """Error of imagined latents by the number of blocks, and that of "nothing moves"."""
    starts, blocks = material.starts(400, most, 6)
    now, rows = material.latents[starts], []
    for ahead in range(1, blocks + 1):
        true = material.latents[starts + ahead * material.block]
        error = float(np.square(material.imagined(starts, ahead) - true).mean())
        still = float(np.square(now - true).mean())
        skill = 1 - error / still if still > 1e-12 else 0.0
        steps = ahead * material.block
        rows.append({"blocks": ahead, "steps": steps, "error": error, "nothing_moves": still, "skill": skill})
    return rows


def _distance(material: Material, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.linalg.norm(material.latents[one] - material.latents[other], axis=1)


def _rising(curve: list[float]) -> int:
    """Index up to which a curve rises, by at least 1% of its largest value each time."""
    least = 0.01 * max(curve)
    return next((i for i in range(len(curve) - 1) if curve[i + 1] < curve[i] + least), len(curve) - 1)
