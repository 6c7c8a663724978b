"""The report page: complete, self-contained, readable, and content with whatever was saved."""

import json
import re
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from helmflow.report.figures import draw_all
from helmflow.report.page import write_page
from helmflow.results import (
    Bounds,
    Check,
    Cost,
    EstimateRow,
    ReferenceDeviation,
    Result,
    RunDirectory,
)
from helmflow.settings import Settings

NAMES = [
    "comparison",
    "work_distributions",
    "integrand",
    "convergence",
    "weights",
    "overlap_matrix",
    "rdf",
    "history",
]


LOST = {
    "lam": "work_distributions",
    "ti_stderr": "integrand",
    "overlap": "overlap_matrix",
    "convergence_forward": "convergence",
    "rdf_r": "rdf",
}


@pytest.fixture
def result():
    return Result(
        system="ice/<test>",
        quantity="helmholtz_free_energy",
        value=-25.16309,
        stderr=6e-5,
        unit="kT",
        per="particle",
        n_particles=64,
        convention="Lambda = 2.3925 A",
        method="ti+cv",
        grade="B",
        reason="Usable with care.",
        seed=0,
        cost=Cost(80.0, 41.0, 99),
        checks=(Check("overlap", 0.2, 0.03, True, "hard"), Check("k-hat", 0.9, 0.7, False)),
        estimates=(EstimateRow("ti+cv", -25.16309, 6e-5), EstimateRow("fep", -25.12, 0.04)),
        references=(ReferenceDeviation(-25.16306, "10.1088/2632-2153/ac6b16", -0.1, 2e-4),),
        length_unit="angstrom",
    )


@pytest.fixture
def work():
    generator = np.random.default_rng(0)
    lam = np.array([0.0, 0.17, 0.5, 0.83, 1.0])
    mean = -1600.0 + 9.0 * (1.0 - lam) ** 2
    fraction, r = np.linspace(0.1, 1.0, 10), np.linspace(2.0, 6.0, 80)
    ones = np.ones(10)
    return {
        "lam": lam,
        "node": np.repeat(np.arange(5), 400),
        "work": (mean[:, None] + 3.0 * generator.normal(size=(5, 400))).ravel(),
        "f_k": mean[0] * lam - 3.0 * lam**2,
        "overlap": np.full((5, 5), 0.2),
        "ti_mean": mean,
        "ti_stderr": np.full(5, 4e-3),
        "ti_stderr_plain": np.full(5, 0.1),
        "ti_mean_plain": mean,
        "ti_weight": np.full(5, 0.2),
        "convergence_fraction": fraction,
        "convergence_forward": -25.163 + 1e-4 * ones,
        "convergence_forward_stderr": 1e-4 * ones,
        "convergence_reverse": -25.163 - 1e-4 * ones,
        "convergence_reverse_stderr": 1e-4 * ones,
        "rdf_r": r,
        "rdf_base": r,
        "rdf_target": r,
        "rdf_target_stderr": 0.01 * r,
    }


METRICS = [
    {"value": -25.16 + 0.01 / k, "stderr": 0.01 / k, "energy_evaluations": 1000 * k}
    for k in range(1, 9)
]


def test_all_figures_with_their_data(result, work):
    drawings = draw_all(result, work, METRICS)
    assert [drawing.name for drawing in drawings] == NAMES
    for drawing in drawings:
        assert drawing.svg().startswith(b"<?xml")
        assert drawing.svg() == drawing.svg()
        assert json.loads(drawing.json())
        for axis in drawing.figure.axes:
            if axis.get_visible() and axis.get_label() != "<colorbar>":
                assert axis.get_xlabel() or drawing.name == "work_distributions"


def test_no_text_covers_another(result, work):
    for drawing in draw_all(result, work, METRICS):
        canvas = FigureCanvasAgg(drawing.figure)
        canvas.draw()
        boxes = [
            (text.get_text(), text.get_window_extent(canvas.get_renderer()))
            for text in visible_texts(drawing.figure)
        ]
        for (one, a), (two, b) in combinations(boxes, 2):
            width = min(a.x1, b.x1) - max(a.x0, b.x0)
            height = min(a.y1, b.y1) - max(a.y0, b.y0)
            assert min(width, height) < 1.0, f"{drawing.name}: {one!r} over {two!r}"


def visible_texts(figure):
    for axis in figure.axes:
        if not axis.get_visible():
            continue
        for side in (axis.xaxis, axis.yaxis):
            low, high = sorted(side.get_view_interval())
            shown = [
                tick.label1
                for tick in side.get_major_ticks()
                if low <= tick.get_loc() <= high and tick.label1.get_visible()
            ]
            yield from (text for text in [*shown, side.label, side.offsetText] if text.get_text())
        yield from (text for text in [*axis.texts, axis.title] if text.get_text())


@pytest.mark.parametrize("missing", sorted(LOST))
def test_missing_arrays_leave_their_figures_out(result, work, missing):
    del work[missing]
    names = {drawing.name for drawing in draw_all(result, work, [])}
    assert names < set(NAMES)
    assert LOST[missing] not in names


def test_infinite_works_and_unknown_errors_are_drawn(result, work):
    work["work"][[0, 1700]] = np.inf
    work["ti_stderr"][0] = np.nan
    work["convergence_forward_stderr"][0] = np.nan
    result = replace(result, estimates=(EstimateRow("fep", np.nan, np.inf),))
    drawings = draw_all(result, work, METRICS)
    assert {"work_distributions", "integrand"} <= {drawing.name for drawing in drawings}


def test_the_page_needs_nothing_beside_it(result, work, tmp_path):
    run = RunDirectory.create(tmp_path / "run", Settings().to_toml(), "digest")
    run.write_work(work)
    run.write_result(result)
    text = write_page(run).read_text()
    assert not re.findall(r'src="(?!data:)', text)
    assert not re.findall(r"<(?:link|iframe|object)", text)
    assert "−25.16309(6)" in text
    assert "kT per particle" in text
    assert "ice/&lt;test&gt;" in text
    assert "ice/<test>" not in text.split("<script")[0]
    assert "failed" in text
    assert "≤ 0.7" in text
    assert "https://doi.org/10.1088/2632-2153/ac6b16" in text
    assert "F/N + ln N / N = −25.09811(6)" in text
    blocks = re.findall(
        r'<script type="application/json" id="data-(\w+)">(.*?)</script>', text, re.DOTALL
    )
    assert {name for name, _ in blocks} == {"result", *NAMES} - {"history"}
    assert all(json.loads(data) for _, data in blocks)


def test_a_bare_result_still_makes_a_page(result, tmp_path):
    run = RunDirectory.create(tmp_path / "run", "", "digest")
    run.write_result(
        replace(
            result,
            checks=(),
            estimates=(),
            references=(),
            n_particles=None,
            quantity="log_partition_function",
            unit="nat",
            per="system",
        )
    )
    text = write_page(run).read_text()
    assert "ln Z" in text
    assert "<h2>Checks" not in text


def test_bounds_have_errors(result, tmp_path):
    run = RunDirectory.create(tmp_path / "run", "", "digest")
    run.write_result(replace(result, bounds=Bounds(-25.17, -25.16234, 3e-3, 4e-4)))
    assert "−25.170(3) ≤ F/N ≤ −25.1623(4)" in re.sub("<[^>]*>", "", write_page(run).read_text())


def test_works_of_two_states_are_shown_with_and_without_the_map(result, work):
    generator = np.random.default_rng(0)
    sides = {
        name: centre + width * generator.normal(size=300)
        for name, centre, width in (
            ("w_F", 3.0, 1.0),
            ("w_R", -2.0, 1.0),
            ("plain_w_F", 9.0, 4.0),
            ("plain_w_R", 5.0, 3.0),
        )
    }
    two = {"lam": np.array([0.0, 1.0]), "node": np.repeat([0, 1], 300), "f_k": np.array([0, 2.5])}
    two["work"] = np.concatenate([sides["w_F"], -sides["w_R"]])
    drawings = {d.name: d for d in draw_all(result, two | sides, [])}
    shown = drawings["work_distributions"].data
    assert {"forward through the map", "reverse without a map"} <= set(shown)
    assert "share A → B" in drawings["weights"].data
    same = sides | {"plain_w_F": sides["w_F"], "plain_w_R": sides["w_R"]}
    drawings = {d.name: d for d in draw_all(result, two | same, [])}
    assert "forward as used" in drawings["work_distributions"].data
