"""One SU(2) or SU(3) matrix: a spectral flow."""

from collections.abc import Mapping

from torch import Generator, Tensor

from helmflow.bijectors.base import Bijector
from helmflow.bijectors.spectral import SpectralFlow
from helmflow.energies.gauge_exact import single_link
from helmflow.energies.wilson import SingleLink
from helmflow.errors import InputError
from helmflow.families.gauge.matrices import MatrixTheory, require_tensors
from helmflow.manifolds.special_unitary import haar_matrices, trace
from helmflow.shapes import Configs, Values
from helmflow.skeleton.run import Run
from helmflow.system import System

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
