"""ln Z of every density whose exact value is known: `pytest -m benchmark -s` prints a row each.

What `helmflow run` reports, its error, grade and deviation from the exact value, which must
stay within three standard errors; the acceptance of Metropolis sampling must be what the Gini
coefficient of the weights says. Run in pieces with `-k`; rings of 8 and 16 rotors, the arm and
the toys take one to five minutes each, the others seconds.
"""

import math

import pytest
from scipy.special import hyp1f1, i0, iv

from helmflow.families import free_energy
from helmflow.families.density.family import BATCHES
from helmflow.system import load_system, shipped_systems

pytestmark = pytest.mark.benchmark
FOLDERS = ("torus", "sphere", "product", "toy")

FILE = """
schema = 1
name = "exact"
kind = "density"
summary = "a density whose partition function is known"
manifold = "{manifold}"

[potential]
{potential}

[state]
beta = {beta}
"""
SHIPPED = [s.name for s in shipped_systems() if s.name.split("/")[0] in FOLDERS]
XY = {
    (2, 1): 4.49974767430165,
    (3, 1): 6.3872063687718,
    (4, 1): 8.371827432455,
    (6, 1): 12.4584516561924,
    (6, 2): 16.1801634318489,
    (8, 2): 21.4016064176243,
    (16, 1): 33.1806677698468,
    (16, 4): 68.3807283838462,
}
BIVARIATE = {
    (1.0, 1.0, 1.0): 4.24655916752113,
    (2.0, 3.0, 1.5): 6.19266648928164,
    (5.0, 4.0, -3.0): 9.59170384156808,
    (1.0, 1.0, 5.0): 6.26522912022538,
}


def axis(dim):
    return [0.6, 0.8] + [0.0] * (dim - 1)


def log_area(dim):
    half = 0.5 * (dim + 1)
    return math.log(2.0) + half * math.log(math.pi) - math.lgamma(half)


def watson(dim, k):
    exact = log_area(dim) + math.log(hyp1f1(0.5, 0.5 * (dim + 1), k))
    return f"S{dim}", f'kind = "watson"\naxis = {axis(dim)}\nconcentration = {k}', 1.0, exact


def von_mises_fisher(dim, k):
    order = 0.5 * (dim - 1)
    exact = (order + 1.0) * math.log(2.0 * math.pi) + math.log(iv(order, k)) - order * math.log(k)
    text = f'kind = "sphere_mixture"\ncentres = [{axis(dim)}]\nconcentration = {k}'
    return f"S{dim}", text, 1.0, exact


def power_spherical(dim, k):
    b = 0.5 * dim
    exact = (2 * b + k) * math.log(2.0) + math.lgamma(b + k) - math.lgamma(2 * b + k)
    text = f'kind = "power_spherical"\naxis = {axis(dim)}\nconcentration = {k}'
    return f"S{dim}", text, 1.0, exact + b * math.log(math.pi)


def spherical_cauchy(dim):
    text = f'kind = "spherical_cauchy"\naxis = {axis(dim)}\nrho = 0.5'
    return f"S{dim}", text, 1.0, log_area(dim)


def bivariate(k1, k2, coupling):
    """``k1 cos a + k2 cos b + l sin a sin b``: the product is a difference of cosines."""
    text = (
        'kind = "torus_cosines"\nmodes = [[1, 0], [0, 1], [1, -1], [1, 1]]\n'
        f"amplitudes = [{k1}, {k2}, {0.5 * coupling}, {-0.5 * coupling}]\n"
        "phases = [0.0, 0.0, 0.0, 0.0]"
    )
    return "T2", text, 1.0, BIVARIATE[k1, k2, coupling]


def ring(n, coupling):
    return f"T{n}", f'kind = "xy_ring"\nn = {n}\ncoupling = {coupling}.0', 1.0, XY[n, coupling]


def unimodal(beta):
    text = (
        'kind = "torus_cosines"\nmodes = [[1, 0], [0, 1]]\namplitudes = [1.0, 1.0]\n'
        "phases = [4.18, 5.96]"
    )
    return "T2", text, beta, 2.0 * math.log(2.0 * math.pi * i0(beta))


def correlated(beta):
    text = 'kind = "torus_cosines"\nmodes = [[1, 1]]\namplitudes = [1.0]\nphases = [1.94]'
    return "T2", text, beta, 2.0 * math.log(2.0 * math.pi) + math.log(i0(beta))


def four_modes(pairs, *, azimuth_first):
    """The two other conventions of the published centres; ln Z is the same."""
    points = []
    for first, second in pairs:
        a, p = (first, second) if azimuth_first else (second, first + 0.5 * math.pi)
        points.append([math.sin(p) * math.cos(a), math.sin(p) * math.sin(a), math.cos(p)])
    text = (
        f'kind = "sphere_mixture"\ncentres = {points}\nconcentration = 10.0\n'
        "weights = [1.0, 1.0, 1.0, 1.0]"
    )
    return "S2", text, 1.0, 10.921586332474


CASES = {f"watson S{d} {k}": watson(d, k) for d, k in ((2, 5.0), (2, -5.0), (3, 5.0), (3, 10.0))}
CASES |= {f"vmf S{d} {k}": von_mises_fisher(d, k) for d, k in ((1, 10.0), (4, 5.0), (7, 5.0))}
CASES |= {f"power S{d} {k}": power_spherical(d, k) for d, k in ((1, 3.0), (2, 10.0), (3, 10.0))}
CASES |= {f"cauchy S{d}": spherical_cauchy(d) for d in (1, 2, 3)}
CASES |= {f"bivariate {k}": bivariate(*k) for k in BIVARIATE}
CASES |= {f"xy {n} {b}": ring(n, b) for n, b in XY}
CASES |= {f"unimodal {b}": unimodal(b) for b in (2.0, 5.0, 10.0)}
CASES |= {f"correlated {b}": correlated(b) for b in (2.0, 5.0, 10.0)}

PRINTED = ((0.7, 1.5), (-1.0, 1.0), (0.6, 0.5), (-0.7, 4.0))
CASES["four modes as printed"] = four_modes(PRINTED, azimuth_first=False)
CASES["four modes, azimuth first"] = four_modes(PRINTED, azimuth_first=True)


def check(name, system, exact):
    result = free_energy(system, seed=0)
    off = result.value - exact
    z = off / result.stderr if result.stderr > 0 else math.inf
    if abs(off) < 1e-12:
        z = 0.0
    ess = f"ESS {100 * result.estimates[0].ess_fraction:.5g} %"
    kl = "" if result.kl_exact is None else f"KL {result.kl_exact:.1e}"
    gini = next(row for row in result.observables if row.name == "acceptance, 1 - Gini")
    print(
        f"\n{name:<28}{result.value:>15.8f} ± {result.stderr:.1e}  {z:+5.1f} sigma  "
        f"{result.grade}  {result.cost.cpu_seconds:6.1f} s  {ess}  {kl}"
    )
    assert result.grade in "AB"
    assert abs(z) <= 3.0
    chain = math.sqrt(max(gini.value * (1.0 - gini.value), 0.0) / BATCHES.least)
    assert abs(result.acceptance - gini.value) < 5.0 * chain + 1e-9


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped(name):
    system = load_system(name)
    check(name, system, system.references[0].value)


@pytest.mark.parametrize("name", CASES)
def test_exact(name, tmp_path):
    manifold, potential, beta, exact = CASES[name]
    path = tmp_path / "exact.toml"
    path.write_text(FILE.format(manifold=manifold, potential=potential, beta=beta))
    check(name, load_system(path), exact)
