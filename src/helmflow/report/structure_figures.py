"""Figures of the structure that was sampled."""

from helmflow.report.drawing import FORWARD, NEUTRAL, Drawing, Work, canvas, has
from helmflow.results import Result


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
