"""The page of a finished run: one HTML file that needs nothing beside it."""

import base64
from html import escape
from importlib import resources
from pathlib import Path

from helmflow.report.drawing import Drawing
from helmflow.report.figures import draw_all
from helmflow.report.sections import (
    checks_section,
    cost_section,
    estimates_section,
    headline_section,
    observables_section,
    references_section,
    settings_section,
)
from helmflow.results import Result, RunDirectory

WIDE_FIGURE = 6.0
"""Inches from which a figure spans both columns of the page."""


def write_page(directory: RunDirectory) -> Path:
    """Write ``report.html`` and return its path; ``InputError`` for a run without a result."""
    result = directory.read_result()
    drawings = draw_all(result, directory.read_work(), directory.read_metrics())
    return directory.write_report(
        render(result, drawings, directory.read_settings(), directory.system or result.system)
    )


def render(result: Result, drawings: list[Drawing], settings: str, system: str) -> str:
    """The HTML text, where ``system`` is what to run again.

    The result and the data of every figure are in ``<script type="application/json">`` blocks.
    """
    tables = "".join(
        [
            checks_section(result),
            estimates_section(result),
            references_section(result),
            observables_section(result),
        ]
    )
    style = resources.files("helmflow.report").joinpath("page.css").read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(result.system)}: {escape(str(result))}</title>
<style>
{style}</style>
</head>
<body>
<main>
{headline_section(result)}
{tables}
<div class="figures">
{"".join(_figure(drawing) for drawing in drawings)}</div>
{cost_section(result)}
{settings_section(result, settings, system)}
{_embedded("result", result.to_json())}
<footer>helmflow {escape(result.versions.get("helmflow", ""))}</footer>
</main>
</body>
</html>
"""


def _figure(drawing: Drawing) -> str:
    wide = ' class="wide"' if drawing.figure.get_figwidth() >= WIDE_FIGURE else ""
    width = 105.0 * drawing.figure.get_figwidth()
    data = drawing.json()
    link = base64.b64encode(data.encode()).decode()
    return f"""<figure{wide}>
<h3>{escape(drawing.title)}</h3>
<img style="max-width:{width:.0f}px" src="{drawing.svg_source()}" alt="{escape(drawing.caption)}">
<figcaption>{escape(drawing.caption)}
<a download="{drawing.name}.json" href="data:application/json;base64,{link}">data</a></figcaption>
{_embedded(drawing.name, data)}
</figure>
"""


def _embedded(name: str, data: str) -> str:
    # "</" would end the block early, and "<!--" hide its end, whatever they are part of
    text = data.replace("<", "\\u003c")
    return f'<script type="application/json" id="data-{name}">{text}</script>'
