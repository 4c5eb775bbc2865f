"""SIGReg: pull the distribution of latents towards an isotropic Gaussian."""

from __future__ import annotations

import torch

from wm_agents.configs import check_counts
from wm_agents.types import LatentBatch


class SIGReg:
    """Sketched isotropic Gaussian regularisation (LeJEPA, arXiv 2511.08544; as used by LeWorldModel).

    Latents are projected on fresh random unit directions each step. Along each direction and at each time index the
    empirical characteristic function of the batch is compared with that of N(0, 1): the Epps-Pulley statistic

        B * integral over [-3, 3] of |mean exp(i t x) - exp(-t^2/2)|^2 exp(-t^2/2) dt,

    by the trapezoid rule on 17 knots in [0, 3], doubled by symmetry. Averaged over directions and time. The statistic
    grows with the batch size, so the weight's effective strength does too.

    Args:
        directions: Random directions per step. The paper uses 1,024 and finds the number irrelevant; 256 is cheaper.
        knots: Integration points in [0, 3].
    """

    def __init__(self, directions: int = 256, knots: int = 17) -> None:
        self.directions, self.knots = directions, knots
        check_counts(self, ("directions",))
        check_counts(self, ("knots",), least=2)
        self.t = torch.linspace(0, 3, knots)
        weights = torch.full((knots,), 2 * 3 / (knots - 1))
        weights[[0, -1]] /= 2
        self.gaussian = torch.exp(-self.t.square() / 2)
        self.weights = weights * self.gaussian

    def __call__(self, batch: LatentBatch) -> torch.Tensor:
        """Return the statistic of ``batch.z``."""
        z = batch.z.transpose(0, 1)
        directions = torch.randn(z.shape[-1], self.directions, generator=batch.generator).to(z)
        projected = z @ (directions / directions.norm(dim=0))
        angles = projected.unsqueeze(-1) * self.t.to(z)
        error = (angles.cos().mean(dim=1) - self.gaussian.to(z)).square() + angles.sin().mean(dim=1).square()
        return (error @ self.weights.to(z)).mean() * z.shape[1]
