"""``Result``: the content of ``result.json``, and the grade that its checks earn."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Literal

import numpy as np

from helmflow.errors import InputError
from helmflow.estimators.estimate import format_uncertainty

SCHEMA = 1
PACKAGES = ("helmflow", "torch", "numpy", "scipy", "numba", "arviz-stats", "safetensors")


@dataclass(frozen=True)
class Check:
    """One line of the certificate: a measured ``value`` against the ``limit`` it must respect.

    A failed ``hard`` check makes the grade F, a failed ``soft`` one C, several D. Of a comparison
    ``chance`` is the probability that a sound run deviates at least as much.
    """

    name: str
    value: float
    limit: float
    passed: bool
    severity: Literal["hard", "soft"] = "soft"
    explanation: str = ""
    chance: float | None = None

    @property
    def relation(self) -> str:
        """The relation that ``value`` and ``limit`` must satisfy, ``<=`` or ``>=``."""
        return "<=" if (self.value <= self.limit) == self.passed else ">="


@dataclass(frozen=True)
class EstimateRow:
    """One estimator applied to the run: value and one standard error in the result's unit."""

    method: str
    value: float
    stderr: float
    n_eff: float | None = None
    ess_fraction: float | None = None
    pareto_k: float | None = None
    overlap: float | None = None


@dataclass(frozen=True)
class ReferenceDeviation:
    """A published value and by how many combined standard errors the result lies above it.

    Without a published error there is no such number.
    """

    value: float
    source: str
    deviation_sigma: float | None = None
    stderr: float | None = None
    note: str | None = None

    @classmethod
    def compare(
        cls,
        value: float,
        stderr: float,
        published: float,
        published_stderr: float | None,
        source: str,
        note: str | None = None,
    ) -> "ReferenceDeviation":
        """``deviation_sigma = (value - published) / sqrt(stderr^2 + published_stderr^2)``.

        ``published_stderr`` is 0 for an exact value and None where none was published.
        """
        if published_stderr is None:
            return cls(published, source, None, None, note)
        scale = math.hypot(stderr, published_stderr)
        difference = value - published
        deviation = difference / scale if scale > 0 else math.copysign(math.inf, difference)
        return cls(published, source, deviation if difference else 0.0, published_stderr, note)


@dataclass(frozen=True)
class Observable:
    """An expectation value with its standard error and integrated autocorrelation time.

    ``exact`` is a known value, with the error ``exact_stderr`` of its last digit.
    """

    name: str
    value: float
    stderr: float
    tau_int: float | None = None
    exact: float | None = None
    exact_stderr: float | None = None

    @property
    def deviation_sigma(self) -> float | None:
        """Combined standard errors above ``exact``; rounding is no deviation."""
        if self.exact is None or math.isclose(self.value, self.exact, abs_tol=1e-9):
            return None if self.exact is None else 0.0
        scale = math.hypot(self.stderr, self.exact_stderr or 0.0)
        return (self.value - self.exact) / scale if scale > 0.0 else math.inf


@dataclass(frozen=True)
class Bounds:
    """Two-sided bounds from the mean works (Jensen), in the result's unit, with their errors."""

    lower: float
    upper: float
    lower_stderr: float | None = None
    upper_stderr: float | None = None


@dataclass(frozen=True)
class Cost:
    """What the run took: processor and wall time in seconds, configurations evaluated."""

    cpu_seconds: float
    wall_seconds: float
    energy_evaluations: int


@dataclass(frozen=True)
class OtherUnit:
    """The same number in another unit, for example kJ/mol."""

    unit: str
    value: float
    stderr: float


@dataclass(frozen=True, kw_only=True)
class Result:
    """A free energy (or ln Z) with its error, its convention and the evidence for it.

    ``value`` and ``stderr`` (one standard error) are in ``unit`` ("kT" or "nat") per ``per``
    ("particle" or "system"); estimates, bounds and references share that unit. The field names are
    those of ``result.json``; what does not apply is None here and absent there.
    """

    system: str
    quantity: Literal["helmholtz_free_energy", "free_energy_difference", "log_partition_function"]
    value: float
    stderr: float
    unit: str
    per: Literal["particle", "system"]
    convention: str
    method: str
    grade: str
    reason: str
    seed: int
    cost: Cost
    n_particles: int | None = None
    checks: tuple[Check, ...] = ()
    estimates: tuple[EstimateRow, ...] = ()
    references: tuple[ReferenceDeviation, ...] = ()
    bounds: Bounds | None = None
    other_units: tuple[OtherUnit, ...] = ()
    length_unit: str | None = None
    observables: tuple[Observable, ...] = ()
    acceptance: float | None = None
    base: str | None = None
    value_exact: float | None = None
    kl_exact: float | None = None
    versions: Mapping[str, str] = field(default_factory=lambda: installed_versions())

    @property
    def symbol(self) -> str:
        """The usual symbol: ``F/N``, ``F``, ``Delta F/N``, ``ln Z``, ..."""
        name = {
            "helmholtz_free_energy": "F",
            "free_energy_difference": "Delta F",
            "log_partition_function": "ln Z",
        }[self.quantity]
        return f"{name}/N" if self.per == "particle" else name

    @property
    def number(self) -> str:
        """Value and error with the unit, ``-25.16309(6) kT``; nats go without."""
        text = format_uncertainty(self.value, self.stderr)
        return text if self.unit == "nat" else f"{text} {self.unit}"

    @property
    def verdict(self) -> str:
        """The grade, and for B what it means: ``B, one-sided``."""
        return "B, one-sided" if self.grade == "B" else self.grade

    def __str__(self) -> str:
        return f"{self.symbol} = {self.number}  ({self.method}; grade {self.verdict})"

    def to_json(self) -> str:
        """The text of ``result.json``: strict JSON, None and empty lists left out.

        Numbers that are not finite are written as the strings "nan", "inf", "-inf".
        """
        return json.dumps(
            plain({"schema": SCHEMA, **asdict(self)}),
            indent=2,
            ensure_ascii=False,
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> "Result":
        """The inverse of ``to_json``; fields of a later schema that are not known are ignored.

        Raises ``InputError("result.json", ...)`` for text that is not a result.
        """
        from pydantic import TypeAdapter

        try:
            return TypeAdapter(cls).validate_json(text)
        except ValueError as error:
            raise InputError("result.json", "a result written by helmflow", error) from error


def plain(value: object) -> object:
    """Numpy scalars, tuples and numbers that are not finite as strict JSON can hold them."""
    if isinstance(value, Mapping):
        return {
            str(key): plain(item)
            for key, item in value.items()
            if not (item is None or (isinstance(item, (str, tuple)) and len(item) == 0))
        }
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else str(float(value))
    return value


def own_version() -> str:
    """The installed version of helmflow, "unknown" for an uninstalled source tree."""
    return installed_versions().get("helmflow", "unknown")


def grade(checks: Sequence[Check], *, one_sided: bool) -> tuple[str, str]:
    """The grade ``A``..``F`` of a set of checks and one plain sentence that says why.

    F: a hard check failed. D: several soft ones. C: one. B: none, but the samples come from one
    side only, which cannot show a missed region. A: none, with evidence from both sides.
    """
    hard = [check for check in checks if not check.passed and check.severity == "hard"]
    soft = [check for check in checks if not check.passed and check.severity == "soft"]
    if hard:
        return "F", f"The number cannot be trusted: {_failures(hard)}."
    if len(soft) > 1:
        return "D", f"Several checks failed: {_failures(soft)}."
    if soft:
        by_chance = ""
        if soft[0].chance is not None:
            by_chance = f"; a sound run deviates as much with probability {soft[0].chance:.1g}"
        return "C", f"Usable with care: {_failures(soft)}{by_chance}."
    if one_sided:
        return "B", (
            "One-sided: all checks passed, but the samples come from one side only, which cannot "
            "show a missed region."
        )
    return "A", f"All {len(checks)} checks passed."


def _failures(checks: Sequence[Check]) -> str:
    return "; ".join(
        f"{check.name} is {_told_apart(check)} where {check.relation} {check.limit:.3g} is needed"
        for check in checks
    )


def _told_apart(check: Check) -> str:
    """The value of a failed check, with as many digits as it takes to see that it failed."""
    for digits in range(3, 17):
        text = f"{check.value:.{digits}g}"
        if float(text) != float(f"{check.limit:.{digits}g}"):
            break
    return text


def installed_versions() -> dict[str, str]:
    """Versions of helmflow and the packages its numbers depend on; absent ones are left out."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
