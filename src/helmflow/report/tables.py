"""Tables and lines for the terminal: shipped systems, checks, deviations from published values."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from helmflow.results import Check, Result
    from helmflow.system import Reference

    Shipped = tuple[str, str, Sequence[Reference]]


def systems_table(shipped: "Sequence[Shipped]") -> Table:
    """Shipped systems: name, summary, first published value."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("system", style="cyan", no_wrap=True)
    table.add_column("published", no_wrap=True, justify="right")
    table.add_column("summary")
    for name, summary, references in shipped:
        first = [number_text(row.value, row.stderr) for row in references[:1]]
        table.add_row(name, "".join(first), Text(summary))
    return table


def systems_json(shipped: "Sequence[Shipped]") -> str:
    """The same as a JSON list of ``{name, summary, references}``."""
    rows = [
        {
            "name": name,
            "summary": summary,
            "references": [
                {key: value for key, value in asdict(reference).items() if value is not None}
                for reference in references
            ],
        }
        for name, summary, references in shipped
    ]
    return json.dumps(rows, indent=2, ensure_ascii=False)


def checks_table(checks: "Sequence[Check]") -> Table:
    """One row per check: passed or not, measured value, limit."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "check", "measured", "needed"):
        table.add_column(column)
    for check in checks:
        mark = Text("ok", "green") if check.passed else Text("FAIL", "bold red")
        more = f"\n{check.explanation}" if check.explanation else ""
        table.add_row(
            mark,
            Text.assemble(check.name, (more, "dim")),
            f"{check.value:.3g}",
            f"{check.relation} {check.limit:.3g}",
        )
    return table


def reference_lines(result: "Result") -> list[str]:
    """One line per published value: value, source, deviation in combined standard errors."""
    return [
        f"published {number_text(row.value, row.stderr)} ({row.source})"
        + ("" if row.deviation_sigma is None else f": {row.deviation_sigma:+.1f} sigma")
        for row in result.references
    ]


def quality_lines(result: "Result") -> list[str]:
    """How close the flow of a density is to it: divergence and effective sample size."""
    divergence = [check.value for check in result.checks if check.name == "KL(q || p)"]
    ess = result.estimates[0].ess_fraction if result.estimates else None
    if not divergence or ess is None:
        return []
    how = "" if result.kl_exact is None else " on a grid"
    # two digits of what is missing to 100 %
    missing = max(100.0 * (1.0 - ess), 1e-10)
    decimals = max(1, 1 - math.floor(math.log10(missing)))
    share = f"{100.0 * ess:.{decimals}f} %"
    return [f"KL(q || p) = {divergence[0]:.2g} nats{how}, effective sample size {share}"]


def number_text(value: float, stderr: float | None) -> str:
    """A published number with every digit it was given: ``-25.16306 ± 0.0002``, ``1.5 exact``."""
    if stderr is None:
        return f"{value:.10g}"
    return f"{value:.10g} ± {stderr:.2g}" if stderr > 0 else f"{value:.10g} exact"
