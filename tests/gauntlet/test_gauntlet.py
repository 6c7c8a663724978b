"""Planted faults of every family: no wrong number may come with a good grade.

`pytest -m gauntlet -s`; the table is printed as it grows. ``-k crystal`` runs one family.
"""

import pytest

from gauntlet import crystals, densities, estimators, fields, gauge, openmm_data, two_states
from gauntlet.fault import HEADER, attempt

FAMILIES = (crystals, fields, gauge, densities, two_states, openmm_data, estimators)
FAULTS = [fault for family in FAMILIES for fault in family.FAULTS]


@pytest.fixture(scope="module", autouse=True)
def table():
    """The head of the table, and what it comes to."""
    rows = []
    print(f"\n{HEADER}", flush=True)
    yield rows
    visible = [row for row in rows if not row.fault.invisible]
    wrong = [row for row in visible if row.passed_for_right]
    print(f"\n{len(rows)} faults, {len(wrong)} wrong numbers with grade A or B, ", end="")
    unfinished = sum(row.grade == "no end" for row in visible)
    print(f"{sum(row.broken for row in visible)} tracebacks, {unfinished} without an end")


@pytest.mark.gauntlet
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_fault(fault, table, tmp_path, monkeypatch):
    row = attempt(fault, tmp_path, monkeypatch)
    table.append(row)
    print(row, flush=True)
    if not fault.invisible:
        assert not row.passed_for_right
        assert not row.broken
