"""Numbers that other programs have computed: reduced potentials, slopes and works of samples."""

from helmflow.data.potentials import SampledPotentials, Slopes
from helmflow.data.read import read_potentials

__all__ = ["SampledPotentials", "Slopes", "read_potentials"]
