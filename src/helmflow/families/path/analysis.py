"""From recorded work values to estimates: every number of a run, and nothing but numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import logsumexp

from helmflow.errors import ConvergenceError
from helmflow.estimators.autocorrelation import integrated_autocorrelation
from helmflow.estimators.bar import bar
from helmflow.estimators.diagnostics import pareto_k
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.fep import fep
from helmflow.estimators.integration import Integral, thermodynamic_integration
from helmflow.estimators.mbar import MultistateEstimate, mbar
from helmflow.estimators.nodes import Nodes, joined
from helmflow.estimators.rivals import quadrature_error
from helmflow.skeleton.limits import QUADRATURE

Array = np.ndarray

BEYOND_CHANCE = 4.0
"""Standard errors from which a difference makes a run start again with more nodes."""

MOST_SAMPLES = 40_000
"""Samples of all nodes that MBAR is given."""


@dataclass(frozen=True)
class Rung:
    """Two neighbouring nodes: free energy from below, from above and from both."""

    up: Estimate
    down: Estimate  # already f_upper - f_lower
    both: Estimate


@dataclass(frozen=True)
class Analysis:
    """All estimates of delta_f = f_target - f_base in kT."""

    samples: Nodes
    integral: Integral | None
    quadrature: float  # its error as far as noise does not explain it
    states: MultistateEstimate | None
    rungs: tuple[Rung, ...]
    headline: Estimate
    one_sided: bool

    @property
    def end_tails(self) -> tuple[float, ...]:
        """Pareto k of the weights that carry either of two nodes to the other; inf if unknown."""
        diagnostics = self.rungs[0].both.diagnostics
        return tuple(
            diagnostics.get(f"pareto_k_{side}", math.inf) for side in ("forward", "reverse")
        )

    @property
    def pooled_tails(self) -> tuple[float, ...]:
        """Pareto k of the weights that carry the samples of all nodes to the base and the target.

        As MBAR weighs them (BAR, for two nodes); inf where it found no answer.
        """
        if self.states is not None:
            f = self.states.f_k
        elif len(self.rungs) == 1:
            f = np.array([0.0, self.rungs[0].both.value])
        else:
            return (math.inf, math.inf)
        work = joined(self.samples.work)
        counts = np.log([w.size for w in self.samples.work])
        mixture = logsumexp((counts + f)[:, None] - np.outer(self.samples.lam, work), axis=0)
        return tuple(pareto_k(-self.samples.lam[end] * work - mixture) for end in (0, -1))

    @property
    def statistical(self) -> Estimate:
        """The headline without the error of its quadrature."""
        return self.headline if self.integral is None else self.integral.estimate

    @property
    def n_eff(self) -> float:
        """Smallest number of effective samples of any node."""
        return effective_samples(self.samples)


def headline(samples: Nodes) -> Estimate:
    """The estimate a result is named after: TI, BAR for two nodes, FEP for one."""
    if len(samples.lam) > 2:
        return thermodynamic_integration(samples).estimate
    g = _inefficiencies(samples)
    if len(samples.lam) == 1:
        return fep(samples.work[0].ravel(), g=g[0])
    return bar(samples.work[0].ravel(), -samples.work[1].ravel(), g=(g[0], g[1]))


def effective_samples(samples: Nodes) -> float:
    """Smallest number of effective samples of any node: n / g of its work."""
    sizes = np.array([w.size for w in samples.work])
    return float(np.min(sizes / _inefficiencies(samples)))


def analyse(samples: Nodes) -> Analysis:
    """Every estimator that the samples allow: one node FEP, two BAR, more TI and MBAR."""
    g = _inefficiencies(samples)
    rungs = tuple(
        _rung(samples.work[k], samples.work[k + 1], gap, (g[k], g[k + 1]))
        for k, gap in enumerate(np.diff(samples.lam))
    )
    several = len(samples.lam) > 2
    integral = thermodynamic_integration(samples) if several else None
    quadrature = 0.0 if integral is None else _excess(quadrature_error(samples, integral))
    return Analysis(
        samples=samples,
        integral=integral,
        quadrature=quadrature,
        states=_multistate(samples, g) if several else None,
        rungs=rungs,
        headline=_widened(
            headline(samples) if integral is None else integral.estimate, quadrature
        ),
        one_sided=len(samples.lam) == 1,
    )


def too_coarse(samples: Nodes, goal: float) -> bool:
    """Whether the error of the quadrature is no chance, and too much for the error asked for."""
    if len(samples.lam) < 3:
        return False
    error = quadrature_error(samples, thermodynamic_integration(samples))
    significant = abs(error.value) > BEYOND_CHANCE * error.stderr
    return significant and _excess(error) > QUADRATURE * goal


def _excess(error: Estimate) -> float:
    return max(abs(error.value) - error.stderr, 0.0)


def _widened(estimate: Estimate, by: float) -> Estimate:
    return replace(estimate, stderr=math.hypot(estimate.stderr, by))


def climb(rungs: Sequence[Rung], direction: str) -> Estimate:
    """Sum over the ladder of one direction ("up", "down") or of both ("both").

    For a single rung this is its own estimate, diagnostics included.
    """
    parts = [{"up": r.up, "down": r.down, "both": r.both}[direction] for r in rungs]
    stderr = math.sqrt(sum(p.stderr**2 for p in parts))
    if direction == "both":
        # Neighbouring rungs share the samples between them; every other rung is independent.
        stderr = sum(math.sqrt(sum(p.stderr**2 for p in parts[k::2])) for k in (0, 1))
    return Estimate(
        value=sum(p.value for p in parts),
        stderr=stderr,
        n_eff=min(p.n_eff for p in parts),
        method={"up": "fep up", "down": "fep down", "both": "bar"}[direction],
        diagnostics=parts[0].diagnostics if len(parts) == 1 else {},
    )


def _inefficiencies(samples: Nodes) -> Array:
    return np.array([_inefficiency(w, k > 0) for k, w in enumerate(samples.work)])


def _inefficiency(work: Array, chain: bool) -> float:
    if not chain or len(work) < 4:
        return 1.0
    g = integrated_autocorrelation(work.T).g
    return g if math.isfinite(g) else 1.0  # equal works have no error to widen


def _rung(lower: Array, upper: Array, gap: float, g: tuple[float, float]) -> Rung:
    forward, reverse = gap * lower.ravel(), -gap * upper.ravel()
    down = fep(reverse, g=g[1])
    return Rung(
        up=fep(forward, g=g[0]),
        down=Estimate(-down.value, down.stderr, down.n_eff, down.method, down.diagnostics),
        both=bar(forward, reverse, g=g),
    )


def _multistate(samples: Nodes, g: Array) -> MultistateEstimate | None:
    # MBAR is a cross-check here: beyond this many samples it costs more than it tells.
    stride = max(1, sum(w.size for w in samples.work) // MOST_SAMPLES)
    work = [w[::stride].ravel() for w in samples.work]
    try:
        return mbar(
            np.outer(samples.lam, np.concatenate(work)),
            [len(w) for w in work],
            g=list(np.maximum(g / stride, 1.0)),
        )
    except ConvergenceError:  # the certificate then lacks its cross-check and says so
        return None
