"""Samples of a flow and of its target, advanced together."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Generator, Tensor

from helmflow.densities.base import Density
from helmflow.densities.gaussian import Gaussian
from helmflow.errors import ConvergenceError
from helmflow.estimators.autocorrelation import integrated_autocorrelation
from helmflow.estimators.reweighting import reweight
from helmflow.families.path.ladder import LadderSampler
from helmflow.families.path.problem import Problem
from helmflow.results import Observable
from helmflow.samplers.hmc import ChainState
from helmflow.samplers.independence import independence_metropolis
from helmflow.shapes import Values
from helmflow.skeleton.run import Run
from helmflow.skeleton.weighted import IN_CACHE, draw
from helmflow.streams import stream


class FlowSampler(LadderSampler):
    """A ladder of two nodes: independent draws of ``flow`` at its foot, the target at its top.

    Works are w = u_target + ln q with q the flow's density, for draws of the flow and for the
    chains at the target. Chains move in the whitened coordinates of ``base``.
    """

    def __init__(
        self,
        problem: Problem,
        base: Gaussian,
        flow: Density,
        chains: tuple[int, int],
        generator: Generator,
    ) -> None:
        super().__init__(problem, base, (0.0, 1.0), chains, [], generator)
        self.flow = flow
        self.raw: Tensor | None = None  # (bins,) counts of the flow's samples, summed
        self.reweighted: Tensor | None = None  # the same, weighted by exp(-w + shift)
        self._shift: float | None = None
        self._observed: list[Tensor] = []  # (O, n_base) observables of the flow's draws

    @property
    def observed(self) -> Tensor:
        """First observable of every draw of the flow (sweeps, draws)."""
        return torch.stack(self._observed)[:, 0]

    def state(self) -> dict[str, Tensor]:
        """Everything needed to continue, as tensors."""
        tensors = super().state()
        tensors["observed"] = torch.stack(self._observed)
        if self.raw is not None and self.reweighted is not None and self._shift is not None:
            tensors |= {
                "raw_counts": self.raw,
                "reweighted_counts": self.reweighted,
                "shift": torch.tensor(self._shift, dtype=torch.float64),
            }
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from what ``state`` returned."""
        super().restore(tensors)
        self._observed = list(tensors["observed"])
        if "raw_counts" in tensors:
            self.raw = tensors["raw_counts"]
            self.reweighted = tensors["reweighted_counts"]
            self._shift = float(tensors["shift"])

    def sample(self, n_sweeps: int) -> None:
        """Record ``n_sweeps`` sweeps: one trajectory of every chain and fresh flow draws."""
        self._state = self._hmc.init(self._whitened())
        before = self.problem.budget.evaluations
        for _ in range(n_sweeps):
            self.records.accepted.append(self._advance())
            u, log_q = draw(self.flow, self.n_base, self._generator)
            potential, _ = self.problem.target(u)
            drawn = potential + log_q
            self._observed.append(self.problem.observe(u, potential))
            self._count(u, drawn)
            self._record_works(torch.cat([drawn, self._chain_work(self._chains())]))
        self._cost = (self.problem.budget.evaluations - before) / n_sweeps

    def curves(self, run: Run) -> Mapping[str, np.ndarray]:
        """Energies of the flow's draws and of the chains; g(r) of the flow, raw and reweighted."""
        chains = torch.stack([o[0] for o in self.records.observables])
        arrays = dict(super().curves(run))
        arrays |= {"observed_flow": self.observed.numpy(), "observed_target": chains.numpy()}
        if self.raw is None or self.reweighted is None:
            return arrays
        for name, counts in (("rdf_flow", self.raw), ("rdf_reweighted", self.reweighted)):
            arrays[name] = self.problem.normalise_histogram(counts[:-1] / counts[-1])
        return arrays

    def flow_observables(self) -> list[Observable]:
        """Observables of a lattice field from the flow's draws, reweighted to the target.

        ``tau_int`` is that of the independence Metropolis chain over the draws.
        """
        if self.problem.noun != "field":
            return []
        log_w = -torch.stack(self.records.work)[:, : self.n_base].flatten().numpy()
        index = independence_metropolis(log_w, stream(0, "order of the flow's draws")).index
        rows = []
        for k, name in enumerate(self.problem.observable_names):
            values = torch.stack(self._observed)[:, k].flatten().numpy()
            mean = reweight(values, log_w)
            tau = integrated_autocorrelation(values[index.numpy()]).tau_int
            rows.append(Observable(f"{name}, flow", mean.value, mean.stderr, tau))
        return rows

    def _chain_work(self, chains: ChainState) -> Values:
        log_q = [self.flow.log_prob(u) for u in chains.u.split(IN_CACHE)]
        return chains.potential + torch.cat(log_q)

    def _record_works(self, works: Values) -> None:
        diverged = int(works.isnan().sum())
        if diverged:
            raise ConvergenceError(
                f"the flow diverges on {diverged} of {len(works)} samples: try more flow.sweeps, "
                "more flow.steps, or --method auto",
                float(diverged),
            )
        self.records.work.append(works)
        self.records.controls.append(works.new_empty(0, len(works)))
        self._record_target(self._chains())

    def _count(self, u: Tensor, work: Values) -> None:
        counts = self.problem.histogram(u)
        if counts is None:
            return
        if self._shift is None:
            self._shift = work.mean().item()
        raw, weighted = counts.sum(0), (self._shift - work).exp() @ counts
        weights = (self._shift - work).exp().sum()
        # The last entry is the sum of the weights, so that a mean can be taken at any time.
        raw = torch.cat([raw, raw.new_tensor([len(u)])])
        weighted = torch.cat([weighted, weights[None]])
        self.raw = raw if self.raw is None else self.raw + raw
        self.reweighted = weighted if self.reweighted is None else self.reweighted + weighted
