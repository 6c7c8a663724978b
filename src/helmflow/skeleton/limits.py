"""Every limit of the certificate, each in one place, with its source."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """A check passes up to ``soft``, or from it on where larger is better; past ``hard``: F."""

    soft: float
    hard: float


# Overlap and effective samples: Mey et al., doi:10.33011/livecoms.2.1.18378; k-hat: Vehtari et
# al., arXiv:1507.02646.
EFFECTIVE_SAMPLES = Limit(50.0, 10.0)
OVERLAP = Limit(0.03, 0.001)
PARETO_K = Limit(0.7, 1.0)
COMPARISONS = Limit(0.02, 1e-4)
"""Probability that any comparison of a sound run deviates as much; see `jointly`."""

KNOWN = 4.0
"""Combined standard errors from a known value beyond which the number is wrong."""

NEGLIGIBLE = 1e-3
"""Of the error asked for: what tables and integrators may add where nothing fluctuates."""

EXACT = Limit(4.0, 8.0)
"""Of observables from what is known of them, in standard errors."""

MODES = Limit(0.3, 0.03)
"""ESS of the flow judged by samples that know nothing of it, over ESS of its own draws."""

LOST_MODES = Limit(1.0, 4.0)
"""Change of ln Z by modes that a search has found and no sample covers, in standard errors."""

SYMMETRY = Limit(1e-6, 1e-3)
"""Change of ln q under an exact symmetry of the target, in nats; rounding alone stays below."""

DIVERGENCE = 1.0
"""KL(q || p) in nats above which a flow has not learned its target, however good the weights."""

LUCK = 1.2
"""ESS of samples over that of the same flow on a grid."""

NORMALISED = 1e-6
"""Of the integral of a flow on a grid from 1."""

GRID = Limit(4.0, 10.0)
"""Of ln Z from that on a grid, in standard errors; an F only where it also exceeds NOTICEABLE."""

QUADRATURE = 3.0
"""Of the error asked for: what the nodes of an integral may cost; the error bar includes it."""

NOTICEABLE = 0.01
"""Nats that matter, however small the errors are."""

CHANCE = 1e-6
"""Probability of a scatter at least as large, below which an error bar is not believed."""

CONSISTENT = 3.0
"""Of two estimates of one run, such as those of its halves, in standard errors."""

ONE_OF_MANY = 4.0
"""Of the chain that lies farthest from the others, in standard errors."""

LEFT_THEIR_SITE = Limit(1e-3, 1e-2)
"""Fraction of particles further than half a bond from their site: the crystal melts."""

LEFT_OUT = Limit(1e-3, 0.05)
"""Samples that have no finite energy in their own state, of all."""

UNEQUILIBRATED = 0.5
"""Part of a series before it fluctuates about its mean: what remains must be most of it."""

FAILED = Limit(1e-3, 5e-3)
"""Energies of samples that could not be computed, of all: a free energy may be off by as much."""

COPIES = Limit(0.01, 0.1)
"""Of frames that are exact copies: of others of their state, which the error bar knows of, only
softly; of frames of another state."""

OF_THEIR_STATE = Limit(0.03, 0.10)
"""Relative error of a temperature or virial measured on samples."""

BARRIER = Limit(5.0, 15.0)
"""kT, of uniform fields: trajectories cross 4.5 kT in every sweep (2 x 2 sites, exact values), and
hardly once in a run 15."""

CROSSINGS = Limit(20.0, 2.0)
"""How often chains go from one of two basins to the other."""

SURELY = 1e-5
"""Chance of an outcome so rare that a sound run never shows it."""

ENERGY_CHANGES = Limit(0.3, 1.0)
"""Of an energy from call to call: how far they move the result, in its standard errors."""

FORCES = Limit(0.3, 1.0)
"""Bias by forces that are not the gradient of the energy, in standard errors of the result; or by
traces that are not those of its second derivatives."""

INTEGRATOR = 0.3
"""Bias of an integrator, in target errors, that its check accepts; steps are chosen to stay
below `helmflow.training.integrator_steps.STEP_BIAS`."""

LOG_DET = 1e-4
"""kT, above what central differences leave of a log-determinant of hundreds of coordinates."""

BROKEN = 5.0
"""Times the limit of a deterministic error beyond which it is an F."""
