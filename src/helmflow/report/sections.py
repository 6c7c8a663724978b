"""The written parts of the report page, as HTML."""

import math
from html import escape

from helmflow.estimators.estimate import format_uncertainty
from helmflow.report.tables import number_text, quality_lines
from helmflow.results import Check, Result

GRADES = {
    "A": ("#15803d", "certified"),
    "B": ("#4d7c0f", "one-sided"),
    "C": ("#a16207", "with care"),
    "D": ("#c2410c", "doubtful"),
    "F": ("#b91c1c", "failed"),
}
_EFFECTS = {"hard": "grade F", "soft": "C, with others D"}
_RELATIONS = {"<=": "≤", ">=": "≥"}
QUANTITIES = {
    "helmholtz_free_energy": "Helmholtz free energy",
    "free_energy_difference": "Free-energy difference",
    "log_partition_function": "Logarithm of the partition function",
}


def headline_section(result: Result) -> str:
    """The number, its unit and convention, the grade and the reason for it."""
    colour, word = GRADES.get(result.grade, GRADES["F"])
    unit = "" if result.unit == "nat" else escape(result.unit)
    per = " per particle" if result.per == "particle" else ""
    number = _typeset(format_uncertainty(result.value, result.stderr))
    reason = result.reason.replace("<=", "≤").replace(">=", "≥")
    sites = "sites" if result.quantity == "log_partition_function" else "particles"
    size = f", {result.n_particles} {sites}" if result.n_particles else ""
    base = f", from {escape(result.base)}" if result.base else ""
    symbol = _typeset(result.symbol).replace("Delta ", "Δ")
    return f"""<section>
<div class="headline"><div>
<h1>{QUANTITIES[result.quantity]} of {escape(result.system)}{size}</h1>
<p class="number"><span class="symbol">{symbol}</span> = {number}
<span class="unit">{unit}{per}</span></p>
{_also(result)}
</div><div class="badge" style="background:{colour}"><b>{escape(result.grade)}</b>
<span>{word}</span></div></div>
<p class="reason" style="border-color:{colour}">{escape(reason)}</p>
<p class="convention">{escape(result.convention.rstrip("."))}. The digits in
brackets are one standard error in the last digits. Method: {escape(result.method)}{base}.</p>
</section>"""


def _also(result: Result) -> str:
    """The same number said differently: other units, bounds, finite-size combination, exact."""
    lines = []
    if result.other_units:
        lines.append(
            " · ".join(
                f"{format_uncertainty(row.value, row.stderr)} {row.unit}"
                for row in result.other_units
            )
        )
    if result.bounds is not None:
        bounds = result.bounds
        lower = _bound(bounds.lower, bounds.lower_stderr)
        upper = _bound(bounds.upper, bounds.upper_stderr)
        lines.append(f"bounds from the mean works: {lower} ≤ {result.symbol} ≤ {upper}")
    n = result.n_particles
    if n and result.quantity == "helmholtz_free_energy" and result.per == "particle":
        corrected = format_uncertainty(result.value + math.log(n) / n, result.stderr)
        lines.append(f"F/N + ln N / N = {corrected} {result.unit} (nearly linear in 1/N)")
    if result.value_exact is not None:
        sigma = (result.value - result.value_exact) / result.stderr if result.stderr > 0 else 0.0
        lines.append(f"exact: {result.value_exact:.10g} ({sigma:+.1f} σ)")
    lines += quality_lines(result)
    return "".join(f'<p class="also">{_typeset(line)}</p>' for line in lines)


def _bound(value: float, stderr: float | None) -> str:
    return f"{value:.6g}" if stderr is None else format_uncertainty(value, stderr)


def checks_section(result: Result) -> str:
    """What was measured against which limit, and whether it passed."""
    rows = [
        [
            _mark(check),
            _name(check),
            f"{check.value:.3g}",
            f"{_RELATIONS[check.relation]} {check.limit:.3g}",
            "" if check.passed else _EFFECTS[check.severity],
        ]
        for check in result.checks
    ]
    header = ["", "check", "measured", "needed", "effect"]
    return _section("Checks", _table(header, rows, right={2, 3}))


def _mark(check: Check) -> str:
    return (
        '<span class="passed">✓ passed</span>'
        if check.passed
        else '<span class="failed">✗ failed</span>'
    )


def _name(check: Check) -> str:
    if not check.explanation:
        return escape(check.name)
    return f'{escape(check.name)}<br><span class="small">{escape(check.explanation)}</span>'


def estimates_section(result: Result) -> str:
    """Every estimator with its diagnostics."""
    header = ["estimator", "value", "N_eff", "ESS", "k-hat", "overlap"]
    rows = [
        [
            escape(row.method),
            _typeset(format_uncertainty(row.value, row.stderr)),
            *(
                _number(value)
                for value in (row.n_eff, row.ess_fraction, row.pareto_k, row.overlap)
            ),
        ]
        for row in result.estimates
    ]
    return _section("Estimates", _table(header, rows, right={1, 2, 3, 4, 5}))


def references_section(result: Result) -> str:
    """Published values and how far the result lies from them."""
    header = ["source", "published", "deviation"]
    rows = [
        [
            _source(row.source, row.note),
            _typeset(number_text(row.value, row.stderr)),
            "" if row.deviation_sigma is None else _typeset(f"{row.deviation_sigma:+.1f} σ"),
        ]
        for row in result.references
    ]
    return _section("Published values", _table(header, rows, right={1, 2}))


def observables_section(result: Result) -> str:
    """Expectation values, for lattice fields, and the acceptance of the sampler."""
    header = ["observable", "value", "exact", "autocorrelation time"]
    rows = [
        [
            escape(row.name),
            _number(row.value)
            if row.stderr == 0.0
            else _typeset(format_uncertainty(row.value, row.stderr)),
            "" if row.exact is None else _typeset(number_text(row.exact, row.exact_stderr)),
            _number(row.tau_int),
        ]
        for row in result.observables
    ]
    if result.acceptance is not None:
        rows.append(["acceptance", _number(result.acceptance), "", ""])
    return _section("Observables", _table(header, rows, right={1, 2, 3}))


def cost_section(result: Result) -> str:
    """What the run took."""
    cost = result.cost
    rows = [
        ["processor time", _duration(cost.cpu_seconds)],
        ["wall time", _duration(cost.wall_seconds)],
    ]
    if cost.energy_evaluations > 0:
        rows.append(["energy evaluations", f"{cost.energy_evaluations:,}"])
    if cost.energy_evaluations > 0 and cost.cpu_seconds > 0:
        rows.append(
            ["per processor second", f"{cost.energy_evaluations / cost.cpu_seconds:,.0f} energies"]
        )
    return _section("Cost", _table(["", ""], rows, right={1}))


def settings_section(result: Result, settings: str, system: str) -> str:
    """How to get the same number again."""
    versions = ", ".join(f"{name} {number}" for name, number in result.versions.items())
    of_its_own = system.startswith("helmflow ")  # the command, where it was not `run`
    command = system if of_its_own else f"helmflow run {system} --settings settings.toml"
    return (
        f"<section><h2>To repeat this run</h2><p>Seed {result.seed}; {escape(versions)}.</p>"
        f"<pre>{escape(command)}</pre><details><summary>settings.toml</summary>"
        f"<pre>{escape(settings)}</pre></details></section>"
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def _table(header: list[str], rows: list[list[str]], right: set[int]) -> str:
    """Cells are HTML already; columns that are empty throughout are left out."""
    columns = [i for i in range(len(header)) if any(row[i] for row in rows)]
    if not columns:
        return ""
    style = {i: ' class="right"' if i in right else "" for i in columns}
    head = "".join(f"<th{style[i]}>{header[i]}</th>" for i in columns)
    body = "".join(
        "<tr>" + "".join(f"<td{style[i]}>{row[i]}</td>" for i in columns) + "</tr>" for row in rows
    )
    top = f"<thead><tr>{head}</tr></thead>" if any(header) else ""
    return f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>'


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else _typeset(f"{value:.3g}")


def _source(source: str, note: str | None) -> str:
    doi = source.removeprefix("https://doi.org/").removeprefix("doi:")
    link = (
        f'<a href="https://doi.org/{escape(doi)}">{escape(doi)}</a>'
        if doi.startswith("10.") and " " not in doi
        else escape(source)
    )
    return f'{link}<br><span class="small">{escape(note)}</span>' if note else link


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def _typeset(text: str) -> str:
    return escape(text).replace("-", "−")
