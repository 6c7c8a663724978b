"""U(1) links by loop splitting, with sectors and winding lines weighted as matter does it."""

import math
from typing import final

import numpy as np
import torch
from scipy.optimize import fminbound
from scipy.special import i0e
from torch import Generator, Tensor

from helmflow.densities.base import Density, require_count
from helmflow.densities.loop_splitting import LoopSplitting
from helmflow.densities.von_mises import draw_von_mises
from helmflow.energies.gauge_exact import charge_distribution
from helmflow.errors import InputError
from helmflow.manifolds.links import require_links, topological_charge
from helmflow.shapes import Configs, Values

Array = np.ndarray
STEEPEST = 2.0
"""Largest |c| that a fit may find."""

RAREST = 1e-3
"""Charges of less weight than this share the factor of the last more frequent one."""


@final
class TiltedLinks(Density):
    """``q(x) f(|Q|)/<f> prod_mu exp(c_mu Re Z_mu)/I_0(c_mu |Z_mu|)`` over loop splitting q.

    ``Z_mu`` is the sum, over the lines along mu, of ``exp(i theta)`` of the whole line; given the
    plaquettes the common phases of these lines are uniform in q, and von Mises distributed here.
    ``sectors`` = f(0), f(1), ..., the last for all charges beyond; sampled by rejection, and
    ``<f>`` follows from the exact distribution of charges. ``windings`` = (c_0, c_1), either sign.
    Raises InputError for factors that are not positive or not finite.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        beta: float,
        sectors: tuple[float, ...] = (1.0,),
        windings: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        super().__init__()
        self.loops = LoopSplitting(shape, beta=beta)
        if not sectors or not all(0.0 < f < math.inf for f in sectors):
            raise InputError("sectors", "positive numbers", sectors)
        if not all(math.isfinite(c) for c in windings):
            raise InputError("windings", "finite numbers", windings)
        top = max(sectors)
        self.sectors, self.windings = tuple(f / top for f in sectors), tuple(windings)
        p = charge_distribution(beta, math.prod(shape), len(sectors) - 1)
        mean = float(p[0] * self.sectors[0] + 2.0 * (p[1:] @ np.array(self.sectors[1:])))
        self.accepted = mean + self.sectors[-1] * (1.0 - float(p[0] + 2.0 * p[1:].sum()))

    def log_prob(self, x: Configs) -> Values:
        return self.loops.log_prob(x) + self._log_sector(x) + self._log_windings(winding_sums(x))

    def sample_and_log_prob(self, n: int, generator: Generator) -> tuple[Configs, Values]:
        require_count(n)
        x, log_q = self._of_sectors(n, generator)
        sums, turned = winding_sums(x), []
        for mu, c in enumerate(self.windings):
            signed = c * sums[mu]
            phase = draw_von_mises(signed.abs(), generator) - signed.angle()
            x[:, mu].select(mu + 1, -1).add_(phase[:, None])
            turned.append(sums[mu] * torch.polar(torch.ones_like(phase), phase))
        return x, log_q + self._log_windings(torch.stack(turned))

    def _of_sectors(self, n: int, generator: Generator) -> tuple[Configs, Values]:
        links, densities, missing = [], [], n
        while missing > 0:
            tried = math.ceil(1.1 * missing / self.accepted) + 8
            x, log_q = self.loops.sample_and_log_prob(tried, generator)
            share = self._factor(x)
            accepted = torch.rand(tried, generator=generator, dtype=torch.float64) < share
            links.append(x[accepted])
            densities.append((log_q + self._log_sector(x))[accepted])
            missing -= int(accepted.sum())
        return torch.cat(links)[:n].clone(), torch.cat(densities)[:n]

    def _factor(self, x: Configs) -> Values:
        charge = topological_charge(x).abs().round().long()
        table = torch.tensor(self.sectors, dtype=torch.float64)
        return table[charge.clamp_max(len(table) - 1)]

    def _log_sector(self, x: Configs) -> Values:
        return (self._factor(x) / self.accepted).log()

    def _log_windings(self, sums: Tensor) -> Values:
        c = torch.tensor(self.windings, dtype=torch.float64)[:, None]
        size = (c * sums).abs()
        return (c * sums.real - size - torch.special.i0e(size).log()).sum(0)


def winding_sums(x: Configs) -> Tensor:
    """Z_mu (2, batch), complex: sums over lines along mu of exp(i theta) of the whole line."""
    require_links(x, (x.shape[-2], x.shape[-1]))
    lines = [x[:, mu].sum(mu + 1) for mu in (0, 1)]
    return torch.stack([torch.polar(torch.ones_like(h), h).sum(1) for h in lines])


def likeliest_windings(x: Configs, weights: Tensor) -> tuple[float, float]:
    """The ``windings`` that make weighted links likeliest; ``weights`` (batch,) sum to one."""
    along, across = (
        fminbound(
            _minus_likelihood,
            -STEEPEST,
            STEEPEST,
            args=(z.real.numpy(), z.abs().numpy(), weights.numpy()),
            xtol=1e-3,
        )
        for z in winding_sums(x)
    )
    return np.asarray(along).item(), np.asarray(across).item()


def _minus_likelihood(c: float, along: Array, size: Array, weights: Array) -> float:
    scale = abs(c) * size
    return -float(weights @ (c * along - scale - np.log(i0e(scale))))


def likeliest_sectors(x: Configs, weights: Tensor, beta: float) -> tuple[float, ...]:
    """The ``sectors`` that make weighted links likeliest over loop splitting at ``beta``."""
    charge = topological_charge(x).abs().round().long()
    share = torch.zeros(int(charge.max()) + 1, dtype=torch.float64)
    share = share.index_add(0, charge, weights).numpy()
    frequent = 1
    while frequent < len(share) and share[frequent] > RAREST:
        frequent += 1
    p = charge_distribution(beta, x[0, 0].numel(), frequent - 1)
    p[1:] *= 2.0
    return tuple(float(f) for f in share[:frequent] / p[:frequent])
