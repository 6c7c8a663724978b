"""Small gauge theories written to a folder and loaded, and their runs with short baselines."""

from dataclasses import replace

from helmflow.families import family_of
from helmflow.families.gauge.family import GaugeFamily
from helmflow.families.gauge.matrices import MatrixTheory
from helmflow.families.gauge.schwinger import SchwingerTheory
from helmflow.families.gauge.u1 import U1Theory
from helmflow.settings import Settings
from helmflow.skeleton.run import Run
from helmflow.system import load_system

FILE = """schema = 1
name = "mine"
kind = "gauge_field"
summary = "links"
{field}
[potential]
{potential}
"""
U1 = 'kind = "u1_wilson"\nbeta = {beta}'
SU2 = 'kind = "su_wilson"\nn_colours = 2\nbeta = {beta}'
SCHWINGER = 'kind = "schwinger"\nbeta = 1.0\nkappa = {kappa}'
LINK = 'kind = "single_link"\nn_colours = {n}\nbeta = {beta}\ncoefficients = {coefficients}'


def write(folder, shape, potential, name="mine.toml"):
    """A system file; no lattice without a shape."""
    path = folder / name
    field = "" if shape is None else f"[field]\nshape = {shape}"
    path.write_text(FILE.format(field=field, potential=potential))
    return path


def gauge(folder, shape, potential, name="mine.toml"):
    """The system in such a file."""
    return load_system(write(folder, shape, potential, name))


def theory_of(system, *, seed=1, **settings):
    """The theory of a system in a run that keeps nothing."""
    family = family_of(system)
    return family.theory(Run(system.name, family.accept(Settings(seed=seed, **settings))))


def shorten(patch, least=2048, **u1):
    """Baselines and fits of the size of small lattices."""
    short = {"chains": 8, "steps": 80, "burn_in": 10, **u1}
    patch.setattr(U1Theory, "baseline_plan", replace(U1Theory.baseline_plan, **short))
    patch.setattr(MatrixTheory, "baseline_plan", replace(MatrixTheory.baseline_plan, steps=10))
    plan = replace(SchwingerTheory.baseline_plan, burn_in=2, steps=8)
    patch.setattr(SchwingerTheory, "baseline_plan", plan)
    patch.setattr(SchwingerTheory, "fit_samples", 1024)
    patch.setattr("helmflow.families.gauge.u1.FIT_CHAINS", 192)
    patch.setattr(GaugeFamily, "batches", replace(GaugeFamily.batches, least=least))
    patch.setattr(GaugeFamily, "volumes", replace(GaugeFamily.volumes, samples=64))
