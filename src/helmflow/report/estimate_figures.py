"""Figures of the estimate: estimators side by side, the integrand, convergence, history."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from helmflow.report.drawing import (
    ESTIMATE,
    FORWARD,
    NEUTRAL,
    REVERSE,
    Drawing,
    Work,
    canvas,
    has,
    thinned,
)
from helmflow.results import ReferenceDeviation, Result


def unit_text(result: Result) -> str:
    """The unit of the headline on an axis: ``kT per particle``."""
    unit = "" if result.unit == "nat" else result.unit
    per = "per particle" if result.per == "particle" else ""
    return " ".join(part for part in (unit, per) if part) or "nats"


def comparison(result: Result, work: Work) -> Drawing | None:
    """Every estimate and published value as a difference from the headline."""
    rows = [(f"{row.method}", row.value, row.stderr, FORWARD) for row in result.estimates]
    rows += [
        (f"published, {_short(row)}", row.value, row.stderr or 0.0, NEUTRAL)
        for row in result.references
    ]
    rows = [row for row in rows if np.isfinite([row[1], row[2]]).all()]
    if not rows:
        return None
    figure, (axis,) = canvas(8.4, 1.1 + 0.3 * len(rows))
    axis.axvspan(-result.stderr, result.stderr, color=ESTIMATE, alpha=0.18, linewidth=0)
    axis.axvline(0.0, color=ESTIMATE)
    differences = [value - result.value for _, value, _, _ in rows]
    for level, ((_, _, stderr, colour), difference) in enumerate(
        zip(rows, differences, strict=True)
    ):
        axis.errorbar(difference, level, xerr=stderr, fmt="o", color=colour, capsize=3)
    # one poor estimator must not flatten the others: it may leave the picture
    reach = [
        abs(difference) + row[2]
        for row, difference in zip(rows, differences, strict=True)
        if row[2] <= 50.0 * result.stderr
    ]
    limit = 1.15 * max([4.0 * result.stderr, *reach]) or 1.0  # two states that are the same
    axis.set(
        xlim=(-limit, limit),
        ylim=(len(rows) - 0.4, -0.6),
        yticks=range(len(rows)),
        yticklabels=[row[0] for row in rows],
        xlabel=f"difference from {result.value:.7g} ({unit_text(result)})".replace("-", "−"),
    )
    axis.locator_params(axis="x", nbins=7)
    return Drawing(
        "comparison",
        "Estimators and published values",
        "Differences from the headline number, whose error is the green band. Bars are one "
        "standard error; a point without a bar has no published error.",
        figure,
        {"value": [row[1] for row in rows], "stderr": [row[2] for row in rows]},
    )


def _short(row: ReferenceDeviation) -> str:
    """What fits beside the axis: a very brief note (the method), or else the source."""
    text = row.note if row.note and len(row.note) <= 14 else row.source
    text = text.removeprefix("https://doi.org/")
    return text if len(text) <= 34 else text[:33] + "…"


def integrand(result: Result, work: Work) -> Drawing | None:
    """The integrand and its errors, with and without control variates."""
    if not has(work, "lam", "ti_mean", "ti_stderr"):
        return None
    lam, mean, stderr = work["lam"], work["ti_mean"], work["ti_stderr"]
    figure, (left, right) = canvas(9.0, 3.5, 2)
    weight = work["ti_weight"] if has(work, "ti_weight") else np.gradient(lam)
    excess = mean - weight @ mean / weight.sum()
    left.axhline(0.0, color=ESTIMATE, linewidth=0.8)
    left.fill_between(lam, excess, alpha=0.12, color=FORWARD, linewidth=0)
    left.errorbar(lam, excess, stderr, fmt="o-", color=FORWARD, capsize=3)
    left.set(xlabel="λ", ylabel="⟨w⟩ at λ − mean over λ (kT)", xlim=(-0.03, 1.03))
    data = {"lambda": lam.tolist(), "mean": mean.tolist(), "stderr": stderr.tolist()}
    right.plot(lam, _positive(stderr), "o-", color=FORWARD, label="as used")
    if has(work, "ti_stderr_plain"):
        plain = work["ti_stderr_plain"]
        right.plot(lam, _positive(plain), "s--", color=REVERSE, label="without control variates")
        data["stderr_plain"] = plain.tolist()
    right.set(xlabel="λ", ylabel="standard error of ⟨w⟩ (kT)", xlim=(-0.03, 1.03))
    if np.isfinite(_positive(stderr)).any():
        right.set_yscale("log")
    right.legend()
    if has(work, "ti_mean_plain"):
        data["mean_plain"] = work["ti_mean_plain"].tolist()
    return Drawing(
        "integrand",
        "Integrand",
        "Left: mean work w = u_target − u_base of the whole system at every λ, relative to its "
        "average over λ, which is the free-energy difference (the shaded areas cancel). Right: "
        "its standard error, which control variates reduce.",
        figure,
        data,
    )


def _positive(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values, np.nan)


def convergence(result: Result, work: Work) -> Drawing | None:
    """Estimates from the first and from the last part of the samples."""
    if not has(work, "convergence_fraction", "convergence_forward", "convergence_reverse"):
        return None
    fraction = 100.0 * work["convergence_fraction"]
    figure, (axis,) = canvas(5.4, 3.8)
    axis.axhspan(
        result.value - result.stderr,
        result.value + result.stderr,
        color=ESTIMATE,
        alpha=0.2,
        linewidth=0,
        label="result ± error",
    )
    data = {"percent": fraction.tolist()}
    seen = []
    for name, colour, label in (
        ("convergence_forward", FORWARD, "first part of the samples"),
        ("convergence_reverse", REVERSE, "last part of the samples"),
    ):
        bar = work.get(f"{name}_stderr")
        axis.errorbar(fraction, work[name], bar, fmt="o-", color=colour, capsize=3, label=label)
        data[name] = work[name].tolist()
        data[f"{name}_stderr"] = [] if bar is None else bar.tolist()
        seen.append(np.abs(work[name] - result.value) + (0.0 if bar is None else bar))
    # a first tenth without overlap must not flatten the rest: it may leave the picture
    reach = np.concatenate(seen)
    reach = reach[reach <= 20.0 * result.stderr]
    limit = 1.1 * max(reach.max(initial=0.0), 4.0 * result.stderr) or 1.0
    axis.set_ylim(result.value - limit, result.value + limit)
    axis.set(xlabel="samples used (%)", ylabel=f"{result.symbol} ({unit_text(result)})")
    axis.legend()
    return Drawing(
        "convergence",
        "Convergence",
        "The estimate from the first and from the last part of the samples. Both must settle in "
        "the green band; a gap at the right half means the chains have not equilibrated.",
        figure,
        data,
    )


def history(result: Result, metrics: Sequence[Mapping[str, Any]]) -> Drawing | None:
    """Standard error of the estimate during the run."""
    rows = np.array(
        [
            (line["energy_evaluations"], line["value"], line["stderr"])
            for line in metrics
            if _has_estimate(line)
        ],
        dtype=float,
    )
    if len(rows) < 3:
        return None
    evaluations, value, stderr = thinned(rows).T
    figure, (left, right) = canvas(9.0, 3.3, 2)
    left.fill_between(
        evaluations, value - stderr, value + stderr, color=FORWARD, alpha=0.2, linewidth=0
    )
    left.plot(evaluations, value, color=FORWARD)
    left.set(xlabel="energy evaluations", ylabel=f"{result.symbol} ({unit_text(result)})")
    right.loglog(evaluations, stderr, "o-", color=FORWARD, markersize=3)
    right.set(xlabel="energy evaluations", ylabel=f"standard error ({unit_text(result)})")
    left.set_xscale("log")
    decades = math.log10(evaluations.max() / evaluations.min())
    steps = (1.0, 2.0, 5.0) if decades < 1.5 else (1.0,)
    for axis in (left, right):
        axis.xaxis.set_major_locator(LogLocator(subs=range(1, 10) if decades < 0.4 else steps))
        axis.xaxis.set_major_formatter(EngFormatter(sep=" "))
        axis.xaxis.set_minor_formatter(NullFormatter())
    return Drawing(
        "history",
        "During the run",
        "The estimate and its standard error as samples came in.",
        figure,
        {
            "energy_evaluations": evaluations.tolist(),
            "value": value.tolist(),
            "stderr": stderr.tolist(),
        },
    )


def _has_estimate(line: Mapping[str, Any]) -> bool:
    value, *scale = (line.get(key) for key in ("value", "stderr", "energy_evaluations"))
    known = isinstance(value, (int, float))
    return known and all(isinstance(number, (int, float)) and number > 0 for number in scale)
