"""Histories of the slow observable of a gauge theory: flow and established samplers."""

import numpy as np

from helmflow.report.drawing import FORWARD, NEUTRAL, REVERSE, Drawing, Work, canvas, has
from helmflow.results import Result

SHOWN = 400
"""Steps drawn of every chain."""


def charge_history(result: Result, work: Work) -> Drawing | None:
    """Topological charge along the Metropolis chain of the flow and along one chain of others."""
    if not has(work, "observed_Q", "index"):
        return None
    chain = np.round(work["observed_Q"][work["index"]][:SHOWN])
    histories = {"flow": chain}
    for name in sorted(work):
        if name.startswith("history_"):
            histories[name.removeprefix("history_")] = work[name][0][:SHOWN]
    figure, axes = canvas(8.4, 0.9 + 1.3 * len(histories), 1, len(histories))
    for axis, (name, series), colour in zip(
        axes, histories.items(), (FORWARD, REVERSE, NEUTRAL), strict=False
    ):
        axis.step(np.arange(len(series)), series, color=colour, linewidth=0.9, where="post")
        axis.set_ylabel(f"Q, {name}")
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
