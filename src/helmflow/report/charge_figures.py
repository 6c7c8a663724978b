"""A gauge theory: histories of its charge under all samplers, and the flow at other volumes."""

import numpy as np

from helmflow.report.drawing import (
    ESTIMATE,
    FORWARD,
    NEUTRAL,
    REVERSE,
    Drawing,
    Work,
    canvas,
    has,
)
from helmflow.results import Result

SHOWN = 400
"""Steps drawn of every chain."""


def charge_history(result: Result, work: Work) -> Drawing | None:
    """Topological charge along the Metropolis chain of the flow and along one chain of others."""
    if not has(work, "observed_Q", "index"):
        return None
    chain = np.round(work["observed_Q"][work["index"]][:SHOWN])
    histories = {result.method: chain}
    for name in sorted(work):
        if name.startswith("history_"):
            histories[name.removeprefix("history_")] = work[name][0][:SHOWN]
    figure, axes = canvas(8.4, 0.9 + 1.5 * len(histories), 1, len(histories))
    for axis, (name, series), colour in zip(
        axes, histories.items(), (FORWARD, REVERSE, NEUTRAL, ESTIMATE), strict=False
    ):
        axis.step(np.arange(len(series)), series, color=colour, linewidth=0.9, where="post")
        axis.set_title(name, loc="left")
        axis.set_ylabel("Q")
        axis.set_xlim(0, SHOWN)
    axes[-1].set_xlabel("step of the Markov chain")
    return Drawing(
        "charge_history",
        "Topological charge",
        "One chain each. A chain that keeps its charge for long does not sample it, whatever its "
        "error bar says.",
        figure,
        {name: series.tolist() for name, series in histories.items()},
    )


def ess_against_volume(result: Result, work: Work) -> Drawing | None:
    """ln of the effective sample size of the same weights on lattices of other extents."""
    if not has(work, "ess_against_volume") or len(work["ess_against_volume"]) < 2:
        return None
    volume, ess = work["ess_against_volume"].T
    of_run = int(np.argmin(np.abs(volume - (result.n_particles or volume[-1]))))
    slope = np.log(ess[of_run]) / volume[of_run]
    figure, (axis,) = canvas(4.6, 3.0)
    line = np.linspace(0.0, volume[-1], 50)
    axis.plot(
        line, np.exp(slope * line), color=NEUTRAL, linewidth=1.0, label="ln ESS proportional to V"
    )
    axis.plot(volume, ess, "o", color=FORWARD, label="this flow")
    axis.set(xlabel="sites V", ylabel="ESS fraction", yscale="log")
    axis.set_ylim(0.8 * ess.min(), 1.05)
    axis.legend()
    return Drawing(
        "ess_against_volume",
        "Effective sample size against volume",
        "The same weights on other extents, not trained again. The line goes through the "
        "lattice of this run; a loss that is paid once, not per site, shows as a flatter row.",
        figure,
        {"volume": volume.tolist(), "ess": ess.tolist()},
    )
