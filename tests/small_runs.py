"""A result with something in every field, and a finished run with it."""

import math

import numpy as np

from helmflow.results import (
    Bounds,
    Check,
    Cost,
    EstimateRow,
    Event,
    OtherUnit,
    ReferenceDeviation,
    Result,
    RunDirectory,
)
from helmflow.settings import Settings

RESULT = Result(
    system="ice/mw_cubic_64",
    quantity="helmholtz_free_energy",
    value=-25.163092,
    stderr=6.1e-5,
    unit="kT",
    per="particle",
    n_particles=64,
    convention="exp(-beta F) = Z / (N! Lambda^3N)",
    method="ti+cv",
    grade="A",
    reason="All 2 checks passed.",
    seed=3,
    cost=Cost(1.5, 2.5, 1000),
    checks=(Check("overlap", 0.2, 0.03, True, "hard"), Check("k-hat", 0.3, 0.7, True)),
    estimates=(EstimateRow("fep", -25.1, 0.1, n_eff=12.0, pareto_k=math.inf),),
    references=(ReferenceDeviation(-25.16306, "doi", -0.1, 2e-4),),
    bounds=Bounds(-25.2, -25.1),
    other_units=(OtherUnit("kJ/mol", -41.8, 1e-4),),
    versions={"helmflow": "0.1"},
)


def finished_run(path):
    """Its directory, written by nothing but `RunDirectory`."""
    directory = RunDirectory.create(path, Settings().to_toml(), "digest", system=RESULT.system)
    directory.record(Event("sampling", 1.0, 2.0, values={"loss": 0.5}))
    directory.write_work({"work": np.arange(6.0), "lam": np.array([0.0, 1.0])})
    directory.write_result(RESULT)
    return path
