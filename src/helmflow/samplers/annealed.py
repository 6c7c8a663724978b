"""Annealed and stochastic flows: maps and Markov chains in turn, and the work they do."""

from collections.abc import Sequence
from typing import final

from torch import Generator

from helmflow.bijectors.base import Bijector, Inverse
from helmflow.errors import InputError
from helmflow.generalised_work import ReducedPotential, work
from helmflow.samplers.leapfrog import LeapfrogChains, Potential
from helmflow.shapes import Configs, Values


@final
class AnnealedPath:
    """A sequence of states exp(-u_0), ..., exp(-u_N) with a map between neighbours.

    Forward: for n = 1 ... N carry x through map n, then move it by HMC that leaves exp(-u_n)
    unchanged. The work of a trajectory is the sum over maps only,

        w = sum_n [u_n(f_n(x)) - u_{n-1}(x) - log|det f_n|],   <exp(-w)> = Z_N / Z_0,

    and feeds ``fep``, and with works of ``reverse`` ``bar`` (Jarzynski, Crooks). Without maps
    (None) this is annealed importance sampling, without ``trajectories`` a plain flow. The last
    states have weights exp(-w) under exp(-u_N).

    ``potentials``: u_0 ... u_N with gradients; ``step`` and ``n_steps`` of each trajectory.
    Source: R. M. Neal, doi:10.1023/A:1008923215028; H. Wu et al., arXiv:2002.06707;
    M. Caselle et al., doi:10.1007/JHEP07(2022)015.
    """

    def __init__(
        self,
        potentials: Sequence[Potential],
        maps: Sequence[Bijector | None] | None = None,
        *,
        step: float,
        n_steps: int,
        trajectories: int = 1,
    ) -> None:
        if len(potentials) < 2:
            raise InputError("potentials", "at least two states", len(potentials))
        maps = [None] * (len(potentials) - 1) if maps is None else list(maps)
        if len(maps) != len(potentials) - 1:
            raise InputError("maps", f"{len(potentials) - 1}, one per step", len(maps))
        self.potentials, self.maps = list(potentials), maps
        self.step, self.n_steps, self.trajectories = step, n_steps, trajectories

    def forward(self, x: Configs, generator: Generator) -> tuple[Configs, Values]:
        """States after the last step, and forward works, of samples x of exp(-u_0)."""
        total = x.new_zeros(len(x))
        for n, bijector in enumerate(self.maps):
            x, spent = self._carry(x, n, n + 1, bijector)
            x, total = self._move(x, n + 1, generator), total + spent
        return x, total

    def reverse(self, x: Configs, generator: Generator) -> tuple[Configs, Values]:
        """States at the first state, and reverse works, of samples x of exp(-u_N)."""
        total = x.new_zeros(len(x))
        for n, bijector in reversed(list(enumerate(self.maps))):
            x = self._move(x, n + 1, generator)
            back = None if bijector is None else Inverse(bijector)
            x, spent = self._carry(x, n + 1, n, back)
            total = total + spent
        return x, total

    def _carry(
        self, x: Configs, start: int, end: int, bijector: Bijector | None
    ) -> tuple[Configs, Values]:
        spent = work(x, self._value(start), self._value(end), bijector)
        return (x if bijector is None else bijector.forward(x)[0]), spent

    def _move(self, x: Configs, n: int, generator: Generator) -> Configs:
        if self.trajectories == 0:
            return x
        chains = LeapfrogChains(
            x, self.potentials[n], step=self.step, n_steps=self.n_steps, generator=generator
        )
        chains.run(self.trajectories)
        return chains.x

    def _value(self, n: int) -> ReducedPotential:
        return lambda x: self.potentials[n](x)[0]
