"""Figures of the structure that was sampled."""

import numpy as np

from helmflow.report.drawing import FORWARD, NEUTRAL, REVERSE, Drawing, Work, canvas, has
from helmflow.results import Result

BINS = 60


def radial_distribution(result: Result, work: Work) -> Drawing | None:
    """g(r) of the base and of the target."""
    if not has(work, "rdf_r", "rdf_target"):
        return None
    r, target = work["rdf_r"], work["rdf_target"]
    figure, (axis,) = canvas(5.4, 4.4)
    data = {"r": r.tolist(), "target": target.tolist()}
    if has(work, "rdf_base"):
        axis.plot(r, work["rdf_base"], "--", color=NEUTRAL, label="base")
        data["base"] = work["rdf_base"].tolist()
    axis.plot(r, target, color=FORWARD, label="crystal")
    if has(work, "rdf_target_stderr"):
        stderr = work["rdf_target_stderr"]
        axis.fill_between(
            r, target - stderr, target + stderr, color=FORWARD, alpha=0.25, linewidth=0
        )
        data["target_stderr"] = stderr.tolist()
    for name, style, label in (
        ("rdf_flow", ":", "flow, raw"),
        ("rdf_reweighted", "-.", "flow, reweighted"),
    ):
        if has(work, name):
            axis.plot(r, work[name], style, color=REVERSE, label=label)
            data[name.removeprefix("rdf_")] = work[name].tolist()
    unit = f" ({result.length_unit})" if result.length_unit else ""
    axis.set(xlabel=f"r{unit}", ylabel="g(r)", xlim=(float(r.min()), float(r.max())))
    axis.set_ylim(bottom=0)
    axis.legend()
    return Drawing(
        "rdf",
        "Radial distribution function",
        "Distances between particles in the base density and in the crystal that was sampled.",
        figure,
        data,
    )


def energy_histogram(result: Result, work: Work) -> Drawing | None:
    """Energies of the flow's samples, raw and reweighted, and of the chains at the target."""
    if not has(work, "observed_flow", "observed_target") or not result.observables:
        return None
    drawn, chains = work["observed_flow"].ravel(), work["observed_target"].ravel()
    works = work["work"][work["node"] == 0]
    weight = np.exp(-(works - works.min()))
    low, high = np.quantile(np.concatenate([drawn, chains]), (0.001, 0.999))
    edges = np.linspace(low, high, BINS + 1)
    figure, (axis,) = canvas(5.4, 4.4)
    data = {"edges": edges.tolist()}
    for label, values, weights, colour, style in (
        ("flow, raw", drawn, None, REVERSE, ":"),
        ("flow, reweighted", drawn, weight, REVERSE, "-."),
        ("chains", chains, None, FORWARD, "-"),
    ):
        density, _ = np.histogram(values, edges, weights=weights, density=True)
        axis.stairs(density, edges, color=colour, linestyle=style, label=label)
        data[label] = density.tolist()
    axis.set(xlabel=result.observables[0].name, ylabel="probability density")
    axis.legend()
    return Drawing(
        "energies",
        "Energies of the flow and of the target",
        "Reweighted samples of the flow must reproduce the chains, which never saw it.",
        figure,
        data,
    )
