"""Data of other programs: values, errors and time against alchemlyb, on the same files.

    python -m pytest tests/benchmarks -m benchmark -s -k estimate

Files of alchemtest. Values of all data must be those of alchemlyb's MBAR; decorrelated data, from
which alchemlyb removes what comes before equilibrium, are another choice of samples and are shown.
"""

import time
import warnings

import numpy as np
import pytest

import helmflow as hf

SAME = 0.3
"""Of the error bar: the largest difference of two estimates of the same data."""


def files_of():
    """Name, files, temperature and parser."""
    pytest.importorskip("alchemtest")
    from alchemlyb.parsing import amber, gmx, gomc
    from alchemtest.amber import load_bace_example
    from alchemtest.gmx import load_benzene, load_water_particle_with_total_energy
    from alchemtest.gomc import load_benzene as load_gomc

    benzene, bace = load_benzene().data, load_bace_example().data
    return [
        ("gromacs benzene Coulomb", benzene["Coulomb"], 300.0, gmx),
        ("gromacs benzene VDW", benzene["VDW"], 300.0, gmx),
        *(
            (f"amber bace {leg} {part}", bace[leg][part], 298.0, amber)
            for leg in bace
            for part in bace[leg]
        ),
        ("gomc benzene", load_gomc().data, 298.0, gomc),
        ("gromacs water", load_water_particle_with_total_energy().data["AllStates"], 300.0, gmx),
    ]


@pytest.mark.benchmark
@pytest.mark.filterwarnings("ignore")
def test_against_alchemlyb():
    warnings.simplefilter("ignore")
    import pandas as pd
    from alchemlyb.estimators import MBAR
    from alchemlyb.preprocessing import decorrelate_u_nk

    cases = files_of()
    hf.estimate(hf.read_potentials([str(f) for f in cases[0][1]], 300.0))  # imports
    ratios = []
    for name, files, temperature, parser in cases:
        start = time.process_time()
        data = hf.read_potentials([str(f) for f in files], temperature)
        graded = hf.estimate(data).result
        ours = time.process_time() - start
        whole = hf.estimate(data, equilibrate=False).result
        start = time.process_time()
        frames = [parser.extract_u_nk(f, T=temperature) for f in files]
        [parser.extract_dHdl(f, T=temperature) for f in files]
        thinned = MBAR().fit(
            pd.concat([decorrelate_u_nk(f, method="dE", remove_burnin=True) for f in frames])
        )
        theirs = time.process_time() - start
        all_data = MBAR().fit(pd.concat(frames)).delta_f_.iloc[0, -1]
        off = (whole.value - all_data) / whole.stderr
        value, stderr = thinned.delta_f_.iloc[0, -1], thinned.d_delta_f_.iloc[0, -1]
        ratios.append(ours / theirs)
        print(
            f"{name:<26} {graded.value:8.4f} +- {graded.stderr:.4f} {graded.grade}; alchemlyb "
            f"{value:8.4f} +- {stderr:.4f}; all data: {whole.value:8.4f}, off by {off:+.1e} bars; "
            f"CPU {ours:5.1f} against {theirs:5.1f} s"
        )
        assert abs(off) < SAME
    print(f"CPU of ours over theirs: {np.mean(ratios):.2f} on average, {max(ratios):.2f} at most")
