"""A density known by its samples: a flow by maximum likelihood, and the free energy of basins."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from helmflow.densities.flow import Flow
from helmflow.errors import InputError
from helmflow.estimators.basins import region_difference, region_probability
from helmflow.estimators.diagnostics import pareto_k
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.reweighting import kish_ess
from helmflow.families.density.likelihood import FORM, Fit, fit_likelihood
from helmflow.manifolds.torus import Torus
from helmflow.results import Check, Observable, Result
from helmflow.skeleton.checks import at_least, at_most, crossings, pareto_tail, weights_that_count
from helmflow.skeleton.kept import Kept
from helmflow.skeleton.limits import CONSISTENT, EFFECTIVE_SAMPLES, ONE_OF_MANY
from helmflow.skeleton.quantity import Finding, Quantity
from helmflow.skeleton.run import Run
from helmflow.streams import stream

Box = Sequence[tuple[float, float]]
"""From and to of every angle, in radians; from above to means through zero."""

TURN = 2.0 * math.pi
CELLS = 60
"""Of the histogram, along every angle."""


@dataclass(frozen=True)
class SampledDensity:
    """What was found: the flow and its size, the result, and the arrays behind the figures."""

    flow: Flow
    result: Result
    arrays: Mapping[str, np.ndarray]
    size: tuple[int, int]

    def kept(self) -> Kept:
        """The flow as a file keeps it."""
        return FORM.pack((self.flow, self.size))


def fit_samples(
    x: np.ndarray,
    basins: Mapping[str, Box],
    *,
    log_weights: np.ndarray | None = None,
    seed: int = 0,
    name: str = "samples",
) -> SampledDensity:
    """Density and free-energy differences of basins from chains of angles (chains, n, D).

    ``log_weights`` (chains, n) are those of reweighted samples (bias/kT, say). The headline is
    ``f_2 - f_1`` of the first two basins, in kT, by counting, with errors that know the
    autocorrelation; the flow, fitted by maximum likelihood, gives the same by an integral. Raises
    InputError for arrays of another shape, angles outside [0, 2 pi), fewer than two basins and
    ranges beyond a whole turn.
    """
    run = Run.in_memory(name, seed)
    x, log_w = _checked(x, log_weights)
    if len(basins) < 2:
        raise InputError("basins", "two or more", len(basins))
    if any(len(box) != x.shape[2] for box in basins.values()):
        raise InputError("basins", f"a range for each of {x.shape[2]} angles", "another number")
    for key, box in basins.items():
        if not all(-TURN <= end <= TURN for pair in box for end in pair):
            raise InputError(f"basins[{key!r}]", "radians from -2 pi to 2 pi", list(box))
    inside = {key: _within(x, box) for key, box in basins.items()}
    flow, fit = fit_likelihood(x, log_w, seed)
    counted = _differences(inside, log_w)
    integrated = _by_flow(flow, basins, seed)
    first, second = list(basins)[:2]
    convention = f"f({second}) - f({first}) = ln of the ratio of their probabilities"
    head, arrays = counted[second], _arrays(x, log_w, flow, basins)
    finding = Finding(
        headline=replace(head, n_eff=head.n_eff * _evenness(log_w)),
        rows=(Estimate(integrated[second], head.stderr, math.nan, "flow"),),
        checks=tuple(_checks(inside, log_w, counted, integrated, fit)),
        observables=tuple(_observables(inside, log_w, counted, integrated, fit)),
        arrays=arrays,
        base=fit.name,
    )
    result = run.conclude(Quantity("free_energy_difference", convention), finding)
    return SampledDensity(flow, result, arrays, fit.size)


def _evenness(log_w: np.ndarray) -> float:
    """Kish's number of the weights as a part of all."""
    return kish_ess(log_w.ravel()) / log_w.size


def _checked(x: np.ndarray, log_weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 3 or min(x.shape) == 0 or x.shape[1] < 40:
        raise InputError("x", "angles (chains, n, D), n at least 40", f"shape {x.shape}")
    Torus(x.shape[2]).require(torch.from_numpy(x.reshape(-1, x.shape[2])))
    log_w = np.zeros(x.shape[:2]) if log_weights is None else np.asarray(log_weights, dtype=float)
    if log_w.shape != x.shape[:2] or not np.isfinite(log_w).all():
        raise InputError("log_weights", f"finite numbers {x.shape[:2]}", f"shape {log_w.shape}")
    return x, log_w


def _within(x: np.ndarray, box: Box) -> np.ndarray:
    """Which of the points (..., D) lie in a box of angles."""
    inside = [
        np.mod(x[..., k] - low, TURN) < (np.mod(high - low, TURN) or TURN)
        for k, (low, high) in enumerate(box)
    ]
    return np.logical_and.reduce(inside)


def _differences(inside: Mapping[str, np.ndarray], log_w: np.ndarray) -> dict[str, Estimate]:
    """f of every basin but the first, less that of the first."""
    first, *others = inside
    return {key: region_difference(inside[first], inside[key], log_w) for key in others}


def _by_flow(flow: Flow, basins: Mapping[str, Box], seed: int) -> dict[str, float]:
    """The same from many samples of the flow."""
    generator = stream(seed, "basins")
    with torch.no_grad():
        parts = [flow.sample_and_log_prob(16_384, generator)[0] for _ in range(16)]
    points = torch.cat(parts).numpy()
    share = {key: max(_within(points, box).mean(), 1e-12) for key, box in basins.items()}
    first, *others = basins
    return {key: math.log(share[first] / share[key]) for key in others}


def _checks(
    inside: Mapping[str, np.ndarray],
    log_w: np.ndarray,
    counted: Mapping[str, Estimate],
    integrated: Mapping[str, float],
    fit: Fit,
) -> list[Check]:
    first, second = list(inside)[:2]
    head = counted[second]
    visits = _crossings(inside[first], inside[second])
    off = abs(integrated[second] - head.value) / max(head.stderr, 1e-12)
    n_eff = head.n_eff * _evenness(log_w)
    gain, enough = fit.held_out.value - fit.histogram, EFFECTIVE_SAMPLES
    checks = [
        crossings(visits, f"from {first} to {second} or back"),
        at_least("independent samples", n_eff, enough.soft, "of the difference", hard=enough.hard),
        *_of_weights(log_w),
        at_most("flow against histogram", off, CONSISTENT, "standard errors of the difference"),
        at_least(
            "held-out gain over a histogram",
            gain,
            0.0,
            "nats per sample, the best of six histograms",
        ),
    ]
    spread = _spread_of_chains(inside[first], inside[second], log_w, head)
    if spread is not None:
        name = "one chain against the others"
        checks.append(at_most(name, spread, ONE_OF_MANY, "standard errors"))
    return checks


def _of_weights(log_w: np.ndarray) -> list[Check]:
    """Whether a few samples outweigh all others; nothing to ask where none has a weight."""
    if np.ptp(log_w) == 0.0:
        return []
    return [
        weights_that_count(kish_ess(log_w.ravel())),
        pareto_tail(pareto_k(log_w.ravel()), log_w.size),
    ]


def _crossings(first: np.ndarray, second: np.ndarray) -> float:
    """How often chains go from one region to the other, whatever lies between."""
    total = 0
    for a, b in zip(first, second, strict=True):
        visited = np.where(a, 1, 0) - np.where(b, 1, 0)
        visited = visited[visited != 0]
        total += int((visited[1:] != visited[:-1]).sum())
    return float(total)


def _spread_of_chains(
    first: np.ndarray, second: np.ndarray, log_w: np.ndarray, head: Estimate
) -> float | None:
    """The largest deviation of one chain in standard errors of a single chain."""
    n = len(first)
    if n < 2:
        return None
    worst = 0.0
    for k in range(n):
        if not (first[k].any() and second[k].any()):
            return math.inf
        one = region_difference(first[k : k + 1], second[k : k + 1], log_w[k : k + 1])
        scale = max(one.stderr, head.stderr * math.sqrt(n))
        worst = max(worst, abs(one.value - head.value) / scale)
    return worst


def _observables(
    inside: Mapping[str, np.ndarray],
    log_w: np.ndarray,
    counted: Mapping[str, Estimate],
    integrated: Mapping[str, float],
    fit: Fit,
) -> list[Observable]:
    rows = []
    for key, member in inside.items():
        p = region_probability(member, log_w)
        rows.append(Observable(f"probability of {key}", p.value, p.stderr, _tau(p)))
    first = next(iter(inside))
    for key, estimate in counted.items():
        label = f"f({key}) - f({first}), kT"
        rows.append(Observable(label, estimate.value, estimate.stderr, _tau(estimate)))
        rows.append(Observable(f"{label}, by the flow", integrated[key], estimate.stderr))
    held_out = fit.held_out
    rows.append(Observable("<ln q> held out", held_out.value, held_out.stderr, _tau(held_out)))
    rows.append(Observable("<ln q> of a histogram, held out", fit.histogram, held_out.stderr))
    return rows


def _tau(estimate: Estimate) -> float | None:
    return estimate.diagnostics.get("tau_int")


def _arrays(
    x: np.ndarray, log_w: np.ndarray, flow: Flow, basins: Mapping[str, Box]
) -> dict[str, np.ndarray]:
    """Points and weights, and for two angles the surface by flow and histogram."""
    arrays = {
        "x": x,
        "log_weights": log_w,
        "basins": np.array([np.ravel(b) for b in basins.values()]),
    }
    if x.shape[2] != 2:
        return arrays
    edges = np.linspace(0.0, 2.0 * math.pi, CELLS + 1)
    centres = torch.from_numpy(0.5 * (edges[1:] + edges[:-1]))
    with torch.no_grad():
        log_q = flow.log_prob(torch.cartesian_prod(centres, centres)).reshape(CELLS, CELLS)
    weights = np.exp(log_w - log_w.max())
    density, _, _ = np.histogram2d(
        x[..., 0].ravel(), x[..., 1].ravel(), edges, weights=weights.ravel(), density=True
    )
    with np.errstate(divide="ignore"):
        surface = -np.log(density)
    arrays |= {
        "surface_edges": edges,
        "surface_flow": -log_q.numpy(),
        "surface_histogram": np.where(np.isfinite(surface), surface, np.nan),
    }
    return arrays
