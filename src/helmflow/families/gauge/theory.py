"""What a run asks of a gauge theory."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Generator, Tensor

from helmflow.bijectors.fixed_step import FixedStepFlow
from helmflow.densities.base import Density
from helmflow.densities.flow import Flow
from helmflow.errors import EnergyError
from helmflow.estimators.nodes import Nodes
from helmflow.manifolds.links import TWO_PI
from helmflow.shapes import Configs, Values
from helmflow.skeleton.run import Run, Stage
from helmflow.skeleton.volumes import Resized, Shape
from helmflow.streams import stream
from helmflow.system import System
from helmflow.training.integrator_steps import Works, works_on

Array = np.ndarray
INTEGRATOR_SAMPLES = 256


@dataclass(frozen=True)
class BaselinePlan:
    """Chains of every established sampler, their steps, and those before that are not counted.

    Of the configurations of the sampler that moves best one in ``every`` is set aside.
    """

    chains: int
    steps: int
    burn_in: int
    every: int


@dataclass(frozen=True)
class Baselines:
    """Established samplers of the theory.

    series: the slow observable (chains, steps) by name of the sampler; target: configurations of
    the one that moves best, which know of modes that a flow may have missed.
    """

    series: Mapping[str, Array]
    target: Configs


@dataclass(frozen=True)
class FittedGauge:
    """A flow and what to call it.

    ``tensors`` is what has to be kept to build it again; ``sampler`` what it is called among
    samplers, which is no flow where nothing was learned.
    """

    flow: Density
    name: str
    tensors: Mapping[str, Tensor]
    sampler: str = "flow"

    @property
    def integrated(self) -> tuple[Density, FixedStepFlow] | None:
        """The base, and the flow of a velocity field that carries it, if there is one."""
        flow = self.flow
        if isinstance(flow, Flow) and isinstance(flow.bijector, FixedStepFlow):
            return flow.base, flow.bijector
        return None


class GaugeTheory(ABC):
    """One gauge theory in one run.

    To add one: the densities and moves below, and a line in `helmflow.families.gauge.family`.
    ``exact`` holds what is known: ``log_z``, and the names of `observables`. ``beta`` is the
    coupling times the inverse temperature.
    """

    kind: ClassVar[str]
    """What messages call it."""

    reads: ClassVar[frozenset[str]]
    """Keys of tables of the settings that its run depends on, besides those all theories read."""

    flow_kinds: ClassVar[tuple[str, ...]] = ("transport",)
    slow: ClassVar[str]
    """The observable whose autocorrelation is compared with the baselines."""

    baseline_plan: ClassVar[BaselinePlan]
    exact: Mapping[str, float]
    shape: tuple[int, ...] = ()
    beta: float

    def __init__(self, system: System, run: Run) -> None:
        self.system, self.run, self.settings = system, run, run.settings
        self.reduced_potential = run.budget.count(system.reduced_potential)

    def u(self, x: Configs) -> Values:
        """The reduced potential; EnergyError for NaN and -inf, which mean no density."""
        value = self.reduced_potential(x)
        if bool((torch.isnan(value) | (value == -math.inf)).any()):
            raise EnergyError("the action is NaN or -inf for some configuration")
        return value

    def potential(self, x: Configs) -> tuple[Values, Configs]:
        """The reduced potential and its gradient."""
        self.run.budget.spend(len(x))
        value, gradient = self.system.energy.energy_and_gradient(x)
        return self.system.beta * value, self.system.beta * gradient

    @property
    def couplings(self) -> dict[str, float | str]:
        """What a flow belongs to, at any extents: the action and the numbers in it."""
        return {"action": type(self.system.energy).__name__, "beta": self.beta}

    @property
    def path_evaluations(self) -> int:
        """Energies that `path` takes."""
        return 0

    @property
    def fit_evaluations(self) -> int:
        """Energies that `fit`, and `load` at its first try, take at least."""
        return 0

    @property
    @abstractmethod
    def baseline_evaluations(self) -> int:
        """Energies that `baselines` takes, and one for each configuration set aside."""

    def path(self) -> Nodes | None:
        """Samples between base and theory, for the fit and for integration; None without."""
        return None

    @abstractmethod
    def fit(self, samples: Nodes | None, stage: Stage) -> Mapping[str, Tensor]:
        """Tensors of the flow; a training keeps its state in ``stage`` and goes on from it."""

    @abstractmethod
    def load(self, tensors: Mapping[str, Tensor]) -> FittedGauge:
        """The flow with the tensors of a fit, also of one at another size."""

    @abstractmethod
    def observables(self, x: Configs) -> Mapping[str, Values]:
        """What is measured on configurations, by name."""

    @abstractmethod
    def gauge_transformed(self, x: Configs, generator: Generator) -> Configs:
        """The configurations after random gauge transformations."""

    def resized(self, tensors: Mapping[str, Tensor], shape: Shape) -> Resized | None:
        """The same flow and action on another lattice; None where that is not possible."""
        return None

    @abstractmethod
    def baselines(self) -> Baselines:
        """Chains of established samplers."""

    def _tell(self, done: float, detail: str) -> None:
        self.run.tell("flow", done, detail=detail)


def integrator_works(theory: GaugeTheory, base: Density, name: str) -> Works:
    """Works of flows of ``base``, from samples that belong to the ``name`` of a purpose."""
    return works_on(base, theory.u, INTEGRATOR_SAMPLES, stream(theory.settings.seed, name))


def turned_angles(x: Configs, generator: Generator) -> Configs:
    """U(1) links after a random gauge transformation of every site."""
    alpha = TWO_PI * torch.rand(*x[:, 0].shape, generator=generator, dtype=torch.float64)
    return x + torch.stack([alpha - alpha.roll(-1, axis) for axis in (1, 2)], 1)
