"""What the recipe asks of a gauge theory."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from helmflow.bijectors.fixed_step import FixedStepFlow
from helmflow.densities.base import Density
from helmflow.densities.flow import Flow
from helmflow.errors import EnergyError, InputError
from helmflow.estimators.nodes import Nodes
from helmflow.estimators.reweighting import kish_ess
from helmflow.families.read_settings import refuse_unread
from helmflow.generalised_work import density_work
from helmflow.settings import Settings
from helmflow.shapes import Configs, Values
from helmflow.streams import stream
from helmflow.system import System
from helmflow.training.integrator_steps import Works, works_on

Array = np.ndarray
Report = Callable[[float, str], None]
"""Called with the fraction done and what is being done."""

Shape = tuple[int, int]
Resized = tuple[Density, Callable[[Configs], Values]]
"""A flow, and the reduced potential that it is for."""

ALWAYS_READ = frozenset({"flow.kind", "flow.source"})
INTEGRATOR_SAMPLES = 256
VOLUME_SAMPLES, LARGEST_VOLUME = 1024, 1024


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
    def integrated(self) -> FixedStepFlow | None:
        """The flow of a velocity field that carries the base, if there is one."""
        bijector = self.flow.bijector if isinstance(self.flow, Flow) else None
        return bijector if isinstance(bijector, FixedStepFlow) else None


class GaugeTheory(ABC):
    """One gauge theory as the recipe sees it.

    To add one: the densities and moves below. ``exact`` holds what is known: ``log_z``, and the
    names of `observables`.
    """

    exact: Mapping[str, float]
    shape: tuple[int, ...] = ()
    slow: str
    """The observable whose autocorrelation is compared with the baselines."""

    kind: str
    """What messages call it."""

    reads: frozenset[str]
    """Keys of tables of the settings that its run depends on; others are refused."""

    flow_kinds: tuple[str, ...] = ("transport",)

    def __init__(self, system: System, settings: Settings) -> None:
        self.system, self.settings = system, settings
        self.n_evaluations = 0
        refuse_unread(settings, self.reads | ALWAYS_READ, self.kind)
        flow_kind = settings.flow.kind
        if flow_kind is not None and flow_kind not in self.flow_kinds:
            expected = f"{' or '.join(self.flow_kinds)} for {self.kind}"
            raise InputError("flow.kind", expected, repr(flow_kind))

    def u(self, x: Configs) -> Values:
        """The reduced potential, counted; EnergyError for NaN and -inf, which mean no density."""
        self.n_evaluations += len(x)
        value = self.system.reduced_potential(x)
        if bool((torch.isnan(value) | (value == -math.inf)).any()):
            raise EnergyError("the action is NaN or -inf for some configuration")
        return value

    @abstractmethod
    def path(self, report: Report) -> Nodes | None:
        """Samples between Haar measure and the theory, for the fit and for integration."""

    @abstractmethod
    def fit(
        self, samples: Nodes | None, report: Report, checkpoint: Path | None = None
    ) -> FittedGauge:
        """The flow; a training keeps its state in the file ``checkpoint`` and goes on from it."""

    @abstractmethod
    def load(self, tensors: Mapping[str, Tensor]) -> FittedGauge:
        """The flow with the tensors of an earlier fit, also of another size."""

    @abstractmethod
    def observables(self, x: Configs) -> Mapping[str, Values]:
        """What is measured on configurations, by name."""

    @abstractmethod
    def gauge_transformed(self, x: Configs, generator: Generator) -> Configs:
        """The configurations after random gauge transformations."""

    @abstractmethod
    def resized(self, tensors: Mapping[str, Tensor], shape: Shape) -> Resized | None:
        """The same flow and action on another lattice; None where that is not possible."""

    @abstractmethod
    def baselines(self) -> Baselines:
        """Chains of established samplers."""


def integrator_works(theory: GaugeTheory, base: Density, name: str) -> Works:
    """Works of flows of ``base``, from samples that belong to the ``name`` of a purpose."""
    return works_on(base, theory.u, INTEGRATOR_SAMPLES, stream(theory.settings.seed, name))


def ess_against_volume(theory: GaugeTheory, fitted: FittedGauge) -> Array:
    """Rows (volume, ESS fraction) of the same flow on half, own, and up to twice the extents."""
    shape, rows = theory.shape, []
    if len(shape) != 2:
        return np.empty((0, 2))
    for scale in (0.5, 1.0, 1.5, 2.0):
        scaled = (int(scale * shape[0]), int(scale * shape[1]))
        if math.prod(scaled) > LARGEST_VOLUME:
            continue
        resized = theory.resized(fitted.tensors, scaled)
        if resized is None:
            continue
        flow, u = resized
        with torch.no_grad():
            generator = stream(theory.settings.seed, "volume")
            x, log_q = flow.sample_and_log_prob(VOLUME_SAMPLES, generator)
            log_w = -density_work(x, log_q, u)
        theory.n_evaluations += len(x)
        rows.append((math.prod(scaled), kish_ess(log_w.numpy()) / len(x)))
    return np.array(rows).reshape(-1, 2)


def turned_angles(x: Configs, generator: Generator) -> Configs:
    """U(1) links after a random gauge transformation of every site."""
    alpha = 6.3 * torch.rand(*x[:, 0].shape, generator=generator, dtype=torch.float64)
    return x + torch.stack([alpha - alpha.roll(-1, axis) for axis in (1, 2)], 1)
