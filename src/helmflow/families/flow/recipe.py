"""How one kind of flow is made, kept, and reused at other sizes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from helmflow.bijectors.base import Bijector
from helmflow.bijectors.fitted_flow import FittedFlow
from helmflow.densities.flow import Flow
from helmflow.densities.gaussian import Gaussian
from helmflow.errors import InputError
from helmflow.families.flow.path_samples import PathSamples
from helmflow.families.path.problem import Problem
from helmflow.fields.base import TransportField
from helmflow.fields.whitened import WhitenedField
from helmflow.settings import NetworkSettings
from helmflow.skeleton.kept import Form, Kept, read_flow
from helmflow.skeleton.run import Run, Stage

P = TypeVar("P", bound=Problem)


@dataclass(frozen=True)
class MadeFlow:
    """A flow ready to be sampled: its density, and its map from the base.

    ``transport``: the fitted part of it. ``network``: of the trained part of one that is read from
    a file, where the settings need not say how it was built.
    """

    density: Flow
    bijector: Bijector
    transport: FittedFlow | None = None
    network: NetworkSettings | None = None

    @property
    def fields(self) -> Sequence[TransportField] | None:
        """What drives the fitted part."""
        return None if self.transport is None else fields_of(self.transport)


@dataclass(frozen=True)
class FlowRecipe(ABC, Generic[P]):
    """One kind of flow of one problem; ``goal``: the error asked for, kT for the whole system."""

    problem: P
    base: Gaussian
    run: Run
    goal: float

    @property
    def kind(self) -> str:
        """What files of such flows say."""
        return f"{self.run.settings.flow.kind} flow of a {self.problem.noun}"

    @abstractmethod
    def make(self, path: PathSamples, stage: Stage) -> MadeFlow:
        """Fit or train it."""

    @abstractmethod
    def pack(self, flow: MadeFlow) -> Kept:
        """Tensors and facts from which it is built again."""

    @abstractmethod
    def build(self, kept: Kept) -> MadeFlow:
        """Build it from them, also for another size of the system."""

    def fit_steps(self, flow: MadeFlow) -> MadeFlow:
        """The flow integrated as finely as this system needs."""
        return flow

    def reuse(self, source: Path) -> MadeFlow:
        """The flow of another run; raises InputError for one that does not belong here."""
        kept = read_flow(source, [self.kind], self.problem.fingerprint())
        try:
            return self.fit_steps(self.build(kept))
        except (KeyError, TypeError, RuntimeError, InputError) as error:
            if isinstance(error, InputError) and error.field == "flow":
                raise
            raise InputError("flow", f"a whole {self.kind}", f"{source} ({error})") from error

    @property
    def form(self) -> Form[MadeFlow]:
        """How the flow of a run is kept: with the base that it was made for."""

        def pack(flow: MadeFlow) -> Kept:
            kept = self.pack(flow)
            rows = self.base.precision[self.base.cells.first_cell]
            tensors = {**kept.tensors, "base": rows}
            energy = self.problem.fingerprint()
            return replace(kept, tensors=tensors, kind=self.kind, energy=energy)

        return Form(pack, self.build)


def fields_of(flow: FittedFlow) -> tuple[TransportField, ...]:
    """What drives a transport flow besides u K u / 2."""
    return flow.field.parts if isinstance(flow.field, WhitenedField) else ()
