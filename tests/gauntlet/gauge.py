"""Faults of gauge theories: log-determinants, couplings, frozen topological sectors."""

import torch

from gauge_systems import LINK, SCHWINGER, U1, gauge, shorten
from gauntlet.fault import Fault
from helmflow import free_energy
from helmflow.bijectors.fixed_step import FixedStepFlow
from helmflow.bijectors.spectral import SpectralFlow
from helmflow.densities.haar import HaarAngles
from helmflow.densities.loop_splitting import LoopSplitting
from helmflow.energies.gauge import U1Wilson
from helmflow.energies.gauge_exact import exact_gauge, single_link
from helmflow.families.gauge import u1

WEAK = exact_gauge(1, 1.0, 16).log_z
STRONG = exact_gauge(1, 6.0, 64).log_z
SU2_EXACT = exact_gauge(2, 1.0, 16).log_z
LINK_EXACT = single_link(2, 2.0, (0.5, 0.3))[0]
ONE_LINK = LINK.format(n=2, beta=2.0, coefficients=[0.5, 0.3])
LOOPS = {"flow": {"start": "loops"}}


def fault(name, shape, potential, exact, plant=lambda patch: None, **settings):
    def run(folder, patch):
        shorten(patch)
        plant(patch)
        return free_energy(gauge(folder, shape, potential), seed=6, settings=settings)

    return Fault("gauge", name, run, exact)


def output(cls, method, change):
    """The log-density or log-determinant in the second place of what a method returns."""

    def plant(patch):
        right = getattr(cls, method)

        def mutant(self, *arguments, **keywords):
            x, log_q = right(self, *arguments, **keywords)
            return x, change(log_q)

        patch.setattr(cls, method, mutant)

    return plant


def both(cls, change):
    """The same mistake in density and samples."""

    def plant(patch):
        log_prob = cls.log_prob
        patch.setattr(cls, "log_prob", lambda self, x: change(log_prob(self, x)))
        output(cls, "sample_and_log_prob", change)(patch)

    return plant


def wrong_action(factor):
    def plant(patch):
        forward = U1Wilson.forward
        patch.setattr(U1Wilson, "forward", lambda self, x: factor * forward(self, x))

    return plant


def frozen(patch):
    """No step from one sector to the next."""
    patch.setattr(
        u1, "winding_step", lambda x, u, generator: (x, torch.zeros(len(x), dtype=torch.bool))
    )


def narrow_haar(patch):
    """A base that draws one half of the circle and says it draws all."""
    draw = HaarAngles.sample_and_log_prob

    def mutant(self, n, generator):
        x, log_q = draw(self, n, generator)
        return x.remainder(torch.pi), log_q

    patch.setattr(HaarAngles, "sample_and_log_prob", mutant)


WEAK_FILE, STRONG_FILE = U1.format(beta=1.0), U1.format(beta=6.0)
FAULTS = [
    fault(
        "log q x 1.001, loop splitting",
        [4, 4],
        WEAK_FILE,
        WEAK,
        both(LoopSplitting, lambda q: 1.001 * q),
        **LOOPS,
    ),
    fault(
        "log q + 0.01, loop splitting",
        [4, 4],
        WEAK_FILE,
        WEAK,
        both(LoopSplitting, lambda q: q + 0.01),
        **LOOPS,
    ),
    fault(
        "log-det x 1.001, U(1) flow",
        [4, 4],
        WEAK_FILE,
        WEAK,
        output(FixedStepFlow, "directed", lambda d: 1.001 * d),
    ),
    fault(
        "log-det + 0.01, U(1) flow",
        [4, 4],
        WEAK_FILE,
        WEAK,
        output(FixedStepFlow, "forward", lambda d: d + 0.01),
    ),
    fault("action x 1.01, U(1)", [4, 4], WEAK_FILE, WEAK, wrong_action(1.01)),
    fault("no winding steps, beta 6", [8, 8], STRONG_FILE, STRONG, frozen),
    fault("base on half of the circle", [4, 4], WEAK_FILE, WEAK, narrow_haar),
    fault(
        "coupling of the base wrong",
        [4, 4],
        WEAK_FILE,
        WEAK,
        flow={"start": "loops", "coupling": 0.6},
    ),
    fault(
        "two integrator steps",
        [4, 4],
        U1.format(beta=3.0),
        exact_gauge(1, 3.0, 16).log_z,
        flow={"steps": 2},
    ),
    fault(
        "log-det x 1.001, one link",
        None,
        ONE_LINK,
        LINK_EXACT,
        output(SpectralFlow, "forward", lambda d: 1.001 * d),
    ),
    fault(
        "log-det + 0.01, one link",
        None,
        ONE_LINK,
        LINK_EXACT,
        output(SpectralFlow, "forward", lambda d: d + 0.01),
    ),
    fault("kappa 0, Schwinger", [4, 4], SCHWINGER.format(kappa=0.0), WEAK),
]
