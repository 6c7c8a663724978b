"""SU(2) and SU(3): couplings of loops in two dimensions, a spectral flow of one matrix."""

from collections.abc import Mapping

import torch
from torch import Generator, Tensor

from helmflow.bijectors.base import Bijector
from helmflow.bijectors.loop_couplings import LoopCouplings
from helmflow.bijectors.spectral import SpectralFlow
from helmflow.densities.flow import Flow
from helmflow.densities.haar import HaarMatrices
from helmflow.energies.gauge_exact import exact_gauge, single_link
from helmflow.energies.wilson import SingleLink, SUWilson, mean_traces
from helmflow.errors import InputError
from helmflow.families.gauge.matrices import MatrixTheory, require_tensors
from helmflow.manifolds.special_unitary import haar_matrices, trace
from helmflow.shapes import Configs, Values
from helmflow.skeleton.run import Run
from helmflow.skeleton.volumes import Resized, Shape
from helmflow.system import System

PLAQUETTE = "<Re tr P>/N"
TILE = "tile"


class SUTheory(MatrixTheory):
    """``S = -(beta/N) sum Re tr P``; a flow runs on any multiple of the extents it is made for."""

    steps = 200
    slow = PLAQUETTE
    shape: Shape

    def __init__(self, system: System, run: Run) -> None:
        energy = system.energy
        if not isinstance(energy, SUWilson):
            raise InputError("potential.kind", "su_wilson", type(energy).__name__)
        super().__init__(system, run, energy)
        self.shape = energy.shape
        known = exact_gauge(self.n_colours, self.beta, self.shape[0] * self.shape[1])
        self.exact = {"log_z": known.log_z, PLAQUETTE: known.plaquette}

    def bijector(self, tensors: Mapping[str, Tensor] | None) -> Bijector:
        """Couplings down from the lattice, or from the tiles that ``tensors`` were trained on."""
        return self._couplings(self.shape, tensors)

    def named(self, bijector: LoopCouplings) -> str:
        size = sum(p.numel() for p in bijector.parameters())
        return f"Haar, {len(bijector.maps)} loop couplings of {size} weights"

    def kept(self, bijector: LoopCouplings) -> Mapping[str, Tensor]:
        """Weights, and the extents of the coarsest rectangles."""
        return {**bijector.state_dict(), TILE: torch.tensor(bijector.tile)}

    def resized(self, tensors: Mapping[str, Tensor], shape: Shape) -> Resized | None:
        """Multiples of the extents that the flow was trained on."""
        if any(n % int(own) for n, own in zip(shape, tensors[TILE], strict=True)):
            return None
        bijector = self._couplings(shape, tensors).requires_grad_(requires_grad=False)
        flow = Flow(HaarMatrices((2, *shape), self.n_colours), bijector)
        u = SUWilson(shape, n_colours=self.n_colours, beta=self.beta)
        return flow, self.run.budget.count(u)

    def observables(self, x: Configs) -> Mapping[str, Values]:
        return {PLAQUETTE: mean_traces(x).mean((1, 2))}

    def gauge_transformed(self, x: Configs, generator: Generator) -> Configs:
        g = haar_matrices((len(x), *self.shape), self.n_colours, generator)
        return torch.stack([g @ x[:, mu] @ g.roll(-1, mu + 1).mH for mu in (0, 1)], 1)

    def _couplings(self, shape: Shape, tensors: Mapping[str, Tensor] | None) -> LoopCouplings:
        if tensors is None:
            return LoopCouplings(shape, self.n_colours)
        weights = {name: value for name, value in tensors.items() if name != TILE}
        tile = (int(tensors[TILE][0]), int(tensors[TILE][1]))
        bijector = LoopCouplings(shape, self.n_colours, tile=tile)
        require_tensors(bijector, weights, f"SU({self.n_colours})")
        return bijector


FIRST = "<Re tr U>/N"


class SingleLinkTheory(MatrixTheory):
    """``S = -(beta/N) Re tr sum_k c_k U^k``, a class function."""

    steps = 300
    slow = FIRST
    energy: SingleLink

    def __init__(self, system: System, run: Run) -> None:
        energy = system.energy
        if not isinstance(energy, SingleLink):
            raise InputError("potential.kind", "single_link", type(energy).__name__)
        super().__init__(system, run, energy)
        log_z, moments = single_link(self.n_colours, self.beta, energy.coefficients)
        names = [_name(k) for k in range(1, len(moments) + 1)]
        self.exact = {"log_z": log_z, **dict(zip(names, moments.tolist(), strict=True))}

    @property
    def couplings(self) -> dict[str, float | str]:
        c = {f"c_{k}": value for k, value in enumerate(self.energy.coefficients, start=1)}
        return super().couplings | c

    def bijector(self, tensors: Mapping[str, Tensor] | None) -> Bijector:
        flow = SpectralFlow(self.n_colours)
        if tensors is not None:
            require_tensors(flow, tensors, f"one SU({self.n_colours}) matrix")
        return flow

    def named(self, bijector: Bijector) -> str:
        return f"Haar, spectral flow of {sum(p.numel() for p in bijector.parameters())} weights"

    def kept(self, bijector: Bijector) -> Mapping[str, Tensor]:
        return bijector.state_dict()

    def observables(self, x: Configs) -> Mapping[str, Values]:
        """``Re tr U^k/N`` for every coefficient."""
        power, traces = x, {}
        for k in range(1, len(self.energy.coefficients) + 1):
            traces[_name(k)] = trace(power).real / self.n_colours
            power = power @ x
        return traces

    def gauge_transformed(self, x: Configs, generator: Generator) -> Configs:
        g = haar_matrices((len(x),), self.n_colours, generator)
        return g @ x @ g.mH


def _name(k: int) -> str:
    return FIRST if k == 1 else f"<Re tr U^{k}>/N"
