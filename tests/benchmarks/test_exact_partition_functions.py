"""ln Z of every density whose exact value is known: `pytest -m benchmark -s` prints a row each.

What `helmflow run` reports, its error, grade and deviation from the exact value, which must
stay within three standard errors. Run one by one with `-k`; the rings of 8 and 16 rotors take
about a minute each, the others seconds.
"""

import math

import pytest
from scipy.special import hyp1f1, i0

from helmflow.recipes import free_energy
from helmflow.system import load_system

pytestmark = pytest.mark.benchmark

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
SHIPPED = (
    "torus/unimodal",
    "torus/multimodal",
    "torus/correlated",
    "sphere/four_modes",
    "sphere/four_modes_s3",
    "sphere/orientations",
    "product/dipole_on_spring",
    "torus/planar_arm_6",
    "torus/checkerboard_4",
    "torus/multimodal_sharp5",
    "toy/sines_10",
)
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


CASES = {f"watson S{d} {k}": watson(d, k) for d, k in ((2, 5.0), (2, -5.0), (3, 5.0), (3, 10.0))}
CASES |= {f"power S{d} {k}": power_spherical(d, k) for d, k in ((1, 3.0), (2, 10.0), (3, 10.0))}
CASES |= {f"cauchy S{d}": spherical_cauchy(d) for d in (1, 2, 3)}
CASES |= {f"bivariate {k}": bivariate(*k) for k in BIVARIATE}
CASES |= {f"xy {n} {b}": ring(n, b) for n, b in XY}
CASES |= {f"unimodal {b}": unimodal(b) for b in (2.0, 5.0, 10.0)}
CASES |= {f"correlated {b}": correlated(b) for b in (2.0, 5.0, 10.0)}


def check(name, system, exact):
    result = free_energy(system, seed=0)
    off = result.value - exact
    z = off / result.stderr if result.stderr > 0 else math.inf
    if abs(off) < 1e-12:
        z = 0.0
    kl = "" if result.kl_exact is None else f"KL {result.kl_exact:.1e}"
    print(
        f"\n{name:<28}{result.value:>15.8f} ± {result.stderr:.1e}  {z:+5.1f} sigma  "
        f"{result.grade}  {result.cost.cpu_seconds:6.1f} s  {kl}"
    )
    assert result.grade in "AB"
    assert abs(z) <= 3.0


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
