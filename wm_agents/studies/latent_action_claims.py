"""What the paper on planning in latent action spaces reports and claims, and whether our numbers agree.

A claim is a list of quantities that should be above 0, one value per seed each: mostly differences between two planners
on the same problems. One holds when its 95% t interval lies above 0, is reversed when it lies below, else is open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from typing import Any

import numpy as np

from wm_agents.studies.latent_action_paper import TABLE_1, TABLE_4
from wm_agents.studies.statistics import rank_correlation, sign_of_mean
from wm_agents.studies.worlds import COUPLINGS


class Results:
    """Read access to what a run holds.

    Args:
        content: What :func:`wm_agents.studies.latent_actions.run` returns, or its JSON file holds.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.dims = [int(dim) for dim in content["settings"]["dims"]]
        self.horizons = [int(horizon) for horizon in content["settings"]["horizons"]]
        self._cells = {
            tuple(cell[key] for key in ("planner", "geometry", "dim", "horizon", "coupling", "start")): cell
            for cell in content["cells"]
        }
        self._geometry = {(row["geometry"], row["dim"]): row for row in content["geometry"]}
        self._baselines = {(row["geometry"], row["dim"], row["coupling"]): row for row in content["baselines"]}
        self._robustness = {(row["planner"], row["coupling"]): row["goal_distance"] for row in content["robustness"]}
        self.planners = list(dict.fromkeys(cell["planner"] for cell in content["cells"]))
        self.geometries = list(dict.fromkeys(row["geometry"] for row in content["geometry"]))
        self.couplings = list(COUPLINGS)

    def cell(
        self, planner: str, geometry: str, coupling: str, *, dim: int = 8, horizon: int = 8, start: str = "centre"
    ) -> dict[str, Any]:
        """One planner in one setting; "straight-through" is "support" for planners that follow no true gradient."""
        if (planner, geometry, dim, horizon, coupling, start) not in self._cells:
            coupling = "support"
        return self._cells[planner, geometry, dim, horizon, coupling, start]

    def values(
        self, planner: str, geometry: str | None, coupling: str, *, metric: str = "goal_distance", **setting: Any
    ) -> np.ndarray:
        """A metric by seed, ``[seeds]``; the mean over geometries where ``geometry`` is None.

        ``setting`` has the options of :meth:`cell`.
        """
        names = self.geometries if geometry is None else [geometry]
        cells = [self.cell(planner, name, coupling, **setting) for name in names]
        return np.mean([cell[metric] for cell in cells], axis=0)

    def of_geometry(self, geometry: str, dim: int, metric: str) -> np.ndarray:
        """A metric of a geometry by seed, ``[seeds]``."""
        return np.asarray(self._geometry[geometry, dim][metric])

    def baseline(self, metric: str, geometry: str | None, coupling: str, dim: int = 8) -> np.ndarray:
        """Metric "idle" or "unreachable" by seed, ``[seeds]``; the mean over geometries where ``geometry`` is None."""
        executed = "free" if coupling in ("free", "penalty") else "support"
        names = self.geometries if geometry is None else [geometry]
        return np.mean([self._baselines[name, dim, executed][metric] for name in names], axis=0)

    def robustness(self, planner: str, coupling: str) -> np.ndarray:
        """Goal distances ``[problems, seeds]`` of the same problems, searched with the noise of each seed."""
        return np.asarray(self._robustness.get((planner, coupling)) or self._robustness[planner, "support"])


Quantities = Callable[[Results, str], list[np.ndarray]]


@dataclass(frozen=True)
class Claim:
    """One statement of the paper.

    Attributes:
        text: The statement.
        source: Where it stands.
        paper: Whether the paper's own numbers bear it out.
        quantities: ``(results, coupling) ->`` arrays that should be above 0, one value a seed.
        depends: Whether the coupling matters; metrics of geometries do not depend on it.
    """

    text: str
    source: str
    paper: str
    quantities: Quantities
    depends: bool = True


def _above(
    better: str, geometry: str | None, others: tuple[str, ...] = (), metric: str = "goal_distance"
) -> Quantities:
    """``better`` has less than each of ``others`` (default: all) in one geometry, or on average over all."""

    def quantities(results: Results, coupling: str) -> list[np.ndarray]:
        rivals = others or tuple(name for name in results.planners if name != better)
        least = results.values(better, geometry, coupling, metric=metric)
        return [results.values(rival, geometry, coupling, metric=metric) - least for rival in rivals]

    return quantities


def _each(*parts: Quantities) -> Quantities:
    return lambda results, coupling: [array for part in parts for array in part(results, coupling)]


def _growth(planners: tuple[str, ...]) -> Quantities:
    """Goal distance grows from each dimension to the next, geometries averaged."""
    return lambda results, coupling: [
        results.values(name, None, coupling, dim=high) - results.values(name, None, coupling, dim=low)
        for name in planners
        for low, high in pairwise(results.dims)
    ]


def _lowest_at_all_dimensions(results: Results, coupling: str) -> list[np.ndarray]:
    return [
        results.values(name, None, coupling, dim=dim) - results.values("cem", None, coupling, dim=dim)
        for dim in results.dims
        for name in results.planners
        if name != "cem"
    ]


def _superlinear(results: Results, coupling: str) -> list[np.ndarray]:
    """Four times the dimension costs more than four times the distance (small grids: the last against the first)."""
    low, high = results.dims[0], min(16, results.dims[-1])
    return [
        results.values(name, None, coupling, dim=high) - high / low * results.values(name, None, coupling, dim=low)
        for name in results.planners
    ]


def _graceful(results: Results, coupling: str) -> list[np.ndarray]:
    """Diffusion's goal distance grows by the smallest factor from d = 8 on (to 16, or the last dimension below)."""
    high = min(16, results.dims[-1])
    growth = {
        name: results.values(name, None, coupling, dim=high) / results.values(name, None, coupling)
        for name in results.planners
    }
    return [growth[name] - growth["diffusion"] for name in results.planners if name != "diffusion"]


def _by_horizon(planner: str, sign: int) -> Quantities:
    """Goal distance on VAE-8d falls (``sign`` -1) or rises (1) from the shortest horizon to the longest."""
    return lambda results, coupling: [
        sign
        * (
            results.values(planner, "vae", coupling, horizon=results.horizons[-1])
            - results.values(planner, "vae", coupling, horizon=results.horizons[0])
        )
    ]


def _consistent(results: Results, coupling: str) -> list[np.ndarray]:
    """Diffusion's goal distances differ least between geometries."""
    ranges = {
        name: np.ptp([results.values(name, geometry, coupling) for geometry in results.geometries], axis=0)
        for name in results.planners
    }
    return [ranges[name] - ranges["diffusion"] for name in results.planners if name != "diffusion"]


def _tight(results: Results, coupling: str) -> list[np.ndarray]:
    """Diffusion varies least over the search's own noise; one value a problem here, not a seed."""
    spread = {name: results.robustness(name, coupling).std(axis=1, ddof=1) for name in results.planners}
    return [spread[name] - spread["diffusion"] for name in results.planners if name != "diffusion"]


def _fewest(metric: str) -> Quantities:
    def quantities(results: Results, coupling: str) -> list[np.ndarray]:
        counts = {name: results.cell(name, "vae", coupling)[metric] for name in results.planners}
        return [np.full(2, counts[name] - counts["diffusion"]) for name in counts if name != "diffusion"]

    return quantities


def _order_of_geometries(metric: str, order: tuple[str, ...]) -> Quantities:
    return lambda results, _: [
        results.of_geometry(more, dim, metric) - results.of_geometry(less, dim, metric)
        for dim in results.dims
        for more, less in pairwise(order)
    ]


def _amenability_by_dimension(sign: int) -> Quantities:
    return lambda results, _: [
        sign * (results.of_geometry(name, high, "amenability") - results.of_geometry(name, low, "amenability"))
        for name in results.geometries
        for low, high in pairwise(results.dims)
    ]


def _predicts(results: Results, coupling: str) -> list[np.ndarray]:
    """At each dimension, more amenable geometries are easier, all planners averaged."""
    found = []
    for dim in results.dims:
        scores = np.array([results.of_geometry(name, dim, "amenability") for name in results.geometries])
        distances = np.array(
            [
                np.mean([results.values(planner, name, coupling, dim=dim) for planner in results.planners], axis=0)
                for name in results.geometries
            ]
        )
        pairs = zip(scores.T, distances.T, strict=True)
        found.append(np.array([-rank_correlation(score, distance) for score, distance in pairs]))
    return found


_RIVALS = ("mppi", "gradient", "sgld", "diffusion")

CLAIMS = (
    Claim("CEM reaches the lowest goal distance, geometries averaged", "section 3.2", "yes", _above("cem", None)),
    Claim(
        "CEM is best on the sparse and on the VQ geometry",
        "table 1",
        "yes",
        _each(_above("cem", "sparse"), _above("cem", "vq")),
    ),
    Claim("Gradient planning is best on VAE", "table 1", "yes", _above("gradient", "vae")),
    Claim(
        "Gradient planning is worst on VQ",
        "table 1",
        "yes",
        _each(*(_above(name, "vq", ("gradient",)) for name in ("cem", "mppi", "sgld", "diffusion"))),
    ),
    Claim(
        "MPPI is worse than CEM on every geometry",
        "table 1",
        "yes",
        _each(*(_above("cem", geometry, ("mppi",)) for geometry in ("vae", "sparse", "vq"))),
    ),
    Claim(
        "SGLD is poor: worse than CEM, gradient and diffusion, geometries averaged",
        "table 1",
        "yes",
        _each(*(_above(name, None, ("sgld",)) for name in ("cem", "gradient", "diffusion"))),
    ),
    Claim("Diffusion differs least between geometries", "section 3.2", "no: CEM .28, diffusion .38", _consistent),
    Claim("Diffusion plans are the smoothest (VAE)", "table 4", "yes", _above("diffusion", "vae", metric="smoothness")),
    Claim(
        "CEM plans are the roughest (VAE)",
        "table 4",
        "yes",
        _each(*(_above(name, "vae", ("cem",), "smoothness") for name in _RIVALS)),
    ),
    Claim(
        "Diffusion scores the fewest sequences, gradients by finite differences",
        "table 4",
        "yes",
        _fewest("finite_differences"),
    ),
    Claim("Diffusion scores the fewest sequences, exact gradients", "-", "not asked", _fewest("evaluations")),
    Claim("Diffusion varies least between runs of the search (VAE)", "figure 6", "shown, no numbers", _tight),
    Claim(
        "All planners get worse with every doubling of d",
        "figure 4",
        "CEM yes, diffusion mixed",
        _growth(("cem", *_RIVALS)),
    ),
    Claim("CEM is lowest at every d, geometries averaged", "figure 4", "yes", _lowest_at_all_dimensions),
    Claim("Goal distance grows faster than d for all, 4 to 16", "abstract", "CEM yes, diffusion no", _superlinear),
    Claim("Diffusion grows by the smallest factor from d = 8 to 16", "section 3.3", "yes", _graceful),
    Claim("CEM improves with the horizon (VAE, d = 8)", "table 3", "yes", _by_horizon("cem", -1)),
    Claim(
        "Diffusion gets a little worse with the horizon (VAE, d = 8)",
        "table 3",
        'yes, called "stable"',
        _by_horizon("diffusion", 1),
    ),
    Claim(
        "VQ is the most amenable geometry at every d, sparse the least",
        "figure 1",
        "yes",
        _order_of_geometries("amenability", ("vq", "vae", "sparse")),
        False,
    ),
    Claim(
        "Effective dimension: sparse above VAE above VQ at every d",
        "figure 2",
        "yes",
        _order_of_geometries("effective_dimension", ("sparse", "vae", "vq")),
        False,
    ),
    Claim("Amenability falls with d", "section 3.1, text", "no: it rises", _amenability_by_dimension(-1), False),
    Claim("Amenability rises with d", "section 3.1, numbers", "yes", _amenability_by_dimension(1), False),
    Claim(
        "More amenable geometries are easier to plan in, at equal d",
        "section 1",
        "no: sparse is easiest for CEM",
        _predicts,
    ),
)
"""The claims that are tested, in the order of the report."""


def judge(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Test every claim under every coupling.

    Returns:
        For each claim ``text``, ``source``, ``paper``, and ``verdicts``: coupling -> ``{"verdict": "agrees" | "open" |
        "does not", "holds": n, "reversed": n, "of": n}``; the coupling is "any" where it does not matter.
    """
    results, found = Results(content), []
    for claim in CLAIMS:
        verdicts = {}
        for coupling in results.couplings if claim.depends else ["any"]:
            signs = [sign_of_mean(values) for values in claim.quantities(results, coupling)]
            verdict = "does not" if -1 in signs else "open" if 0 in signs else "agrees"
            verdicts[coupling] = {
                "verdict": verdict,
                "holds": signs.count(1),
                "reversed": signs.count(-1),
                "of": len(signs),
            }
        found.append({"text": claim.text, "source": claim.source, "paper": claim.paper, "verdicts": verdicts})
    return found


def correlations(content: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Rank correlations of our means with the paper's numbers, by table, coupling and start.

    Table 1 as a whole (15 cells), its planners averaged over geometries (5), the mean over geometries of the planners'
    order within one (5 each), and the smoothness of table 4 (5).
    """
    results = Results(content)
    found: dict[str, dict[str, float]] = {name: {} for name in ("cells", "planners", "within", "smoothness")}
    paper = np.array([TABLE_1[name] for name in results.planners])
    for start, coupling in product(("centre", "drawn"), results.couplings):
        values = partial(results.values, coupling=coupling, start=start)
        ours = np.array([[values(name, one).mean() for one in results.geometries] for name in results.planners])
        smooth = [values(name, "vae", metric="smoothness").mean() for name in results.planners]
        key = f"{coupling}, {start}"
        found["cells"][key] = rank_correlation(paper.ravel(), ours.ravel())
        found["planners"][key] = rank_correlation(paper.mean(1), ours.mean(1))
        within = [rank_correlation(one, two) for one, two in zip(paper.T, ours.T, strict=True)]
        found["within"][key] = float(np.mean(within))
        found["smoothness"][key] = rank_correlation([TABLE_4[name][0] for name in results.planners], smooth)
    return found
