"""Every check of the certificate with its limits, each in one place, with their source."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import erfc, ndtri
from scipy.stats import chi2

from helmflow.estimators.estimate import Estimate
from helmflow.results import Check, Observable, ReferenceDeviation

Array = np.ndarray


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


def at_most(name: str, value: float, limit: float, meaning: str, hard: float = math.inf) -> Check:
    """A check that passes up to ``limit``; beyond ``hard`` the number cannot be trusted."""
    broken = not value <= hard
    bound = hard if broken else limit
    return Check(name, value, bound, bool(value <= limit), "hard" if broken else "soft", meaning)


def at_least(
    name: str, value: float, limit: float, meaning: str, hard: float = -math.inf
) -> Check:
    """A check that passes from ``limit`` on; below ``hard`` the number cannot be trusted."""
    broken = not value >= hard
    bound = hard if broken else limit
    return Check(name, value, bound, bool(value >= limit), "hard" if broken else "soft", meaning)


def sigmas(a: Estimate, b: Estimate) -> float:
    """Difference of two independent estimates in standard errors; zero for mere rounding."""
    scale = math.hypot(a.stderr, b.stderr)
    difference = abs(a.value - b.value)
    if difference <= rounding(a.value) and not math.isnan(scale):
        return 0.0
    return difference / scale if scale > 0.0 else math.inf


def rounding(value: float) -> float:
    """What rounding alone can make of a difference of two numbers of this size."""
    return 1e-11 * (1.0 + abs(value))


def target_error(estimate: Estimate, goal: float, meaning: str = "kT, whole system") -> Check:
    """Whether the error is as small as asked for."""
    return at_most("target error", estimate.stderr, goal, meaning)


def effective_samples(n_eff: float, meaning: str) -> Check:
    """Whether enough samples stand behind the error bar."""
    soft, hard = EFFECTIVE_SAMPLES.soft, EFFECTIVE_SAMPLES.hard
    return at_least("effective samples", n_eff, soft, meaning, hard=hard)


def weights_that_count(n_eff: float) -> Check:
    """Whether enough weights stand behind a reweighted average."""
    soft, hard = EFFECTIVE_SAMPLES.soft, EFFECTIVE_SAMPLES.hard
    return at_least("weights that count", n_eff, soft, "Kish's number", hard=hard)


def pareto_tail(k: float, n: int, meaning: str = "tail of the weights") -> Check:
    """Whether the tail of n weights allows their error to be believed.

    The shape is known from few weights only if it is small: ``1 - 1/log10(n)`` below 2154.
    """
    soft = min(PARETO_K.soft, 1.0 - 1.0 / math.log10(max(n, 11)))
    return at_most("pareto k", k, soft, meaning, hard=PARETO_K.hard)


def overlap(value: float, meaning: str) -> Check:
    """Whether neighbouring states share enough of their samples."""
    return at_least("overlap", value, OVERLAP.soft, meaning, hard=OVERLAP.hard)


def comparison(name: str, sigmas: float, meaning: str = "standard errors") -> Check:
    """A difference in standard errors, with the probability that a sound run exceeds it."""
    soft, hard = deviation_of(COMPARISONS.soft), deviation_of(COMPARISONS.hard)
    check = at_most(name, sigmas, soft, meaning, hard=hard)
    return replace(check, chance=float(erfc(sigmas / math.sqrt(2.0))))


def deviation_of(chance: float) -> float:
    """Standard errors that a normal deviate exceeds, up or down, with this probability."""
    return -float(ndtri(0.5 * chance))


def jointly(checks: Sequence[Check]) -> tuple[Check, ...]:
    """The comparisons among the checks tested together, the others as they are.

    Of m comparisons each may deviate as a sound run does with probability `COMPARISONS` / m, so
    that the probability of any false alarm is at most `COMPARISONS`, whatever their correlation
    (Bonferroni).
    """
    m = max(1, sum(check.chance is not None for check in checks))
    soft, hard = deviation_of(COMPARISONS.soft / m), deviation_of(COMPARISONS.hard / m)
    return tuple(
        check
        if check.chance is None
        else replace(
            at_most(check.name, check.value, soft, check.explanation, hard=hard),
            chance=check.chance,
        )
        for check in checks
    )


def failed_by_chance(checks: Sequence[Check]) -> bool:
    """Whether comparisons failed softly and nothing else did: more samples may show why."""
    failed = [check for check in jointly(checks) if not check.passed]
    return bool(failed) and all(c.chance is not None and c.severity == "soft" for c in failed)


def finite(value: float, stderr: float) -> list[Check]:
    """A number or an error that is not finite is no result; no check where both are."""
    if math.isfinite(value) and math.isfinite(stderr):
        return []
    largest = sys.float_info.max
    size = math.hypot(value, stderr)
    return [at_most("finite value and error", size, largest, "of the result", hard=largest)]


def known_value(
    value: float, references: Sequence[ReferenceDeviation], goal: float
) -> list[Check]:
    """Whether the result is what the system file says it is; no check where that is unknown."""
    negligible = max(NEGLIGIBLE * goal, rounding(value))
    off = {
        row.source: 0.0 if abs(value - row.value) <= negligible else abs(row.deviation_sigma)
        for row in references
        if row.deviation_sigma is not None
    }
    if not off:
        return []
    source, worst = max(off.items(), key=lambda item: item[1])
    return [at_most("known value", worst, KNOWN, f"combined errors, {source}", hard=KNOWN)]


def agreement(name: str, a: Estimate, b: Estimate, meaning: str = "standard errors") -> Check:
    """Whether two estimates that share no samples agree."""
    return comparison(name, sigmas(a, b), meaning)


def log_determinant(error: float, stderr: float) -> Check:
    """Whether a map changes volumes by what it says, against the error bar of the estimate."""
    limit = max(0.5 * stderr, LOG_DET)
    return deterministic("log-determinant", error, limit, "kT, against the Jacobian")


def integrator(bias: float, goal: float, meaning: str = "kT, on doubling the steps") -> Check:
    """Whether a flow is integrated finely enough for the error asked for."""
    return deterministic("integrator", bias, INTEGRATOR * goal, meaning)


def deterministic(name: str, error: float, limit: float, meaning: str) -> Check:
    """An error without a random part: well beyond its limit the number is wrong."""
    return at_most(name, error, limit, meaning, hard=BROKEN * limit)


def invariance(name: str, change: float) -> Check:
    """Whether the density of a flow has a symmetry that it has by construction."""
    return at_most(name, change, SYMMETRY.soft, "nats, of ln q", hard=SYMMETRY.hard)


def mirror_images(change: float) -> Check:
    """Whether configurations and their mirror images have the same energy, on target samples."""
    meaning = "kT, largest difference"
    return at_most("mirror images", change, SYMMETRY.soft, meaning, hard=SYMMETRY.hard)


def unequal_wells(barrier: float) -> Check:
    """Whether chains cross between two wells of a field that no symmetry exchanges."""
    meaning = "kT of barrier between two wells"
    return at_most("unequal wells", barrier, BARRIER.soft, meaning, hard=BARRIER.hard)


def modes_of_the_chains(ratio: float) -> Check:
    """A flow that has lost a mode is blind to it; chains at the target are not."""
    meaning = "ESS on the chains over ESS on the flow's draws"
    return at_least("modes of the chains", ratio, MODES.soft, meaning, hard=MODES.hard)


def lost_modes(share: float | None, stderr: float) -> Check:
    """Whether modes that a search found hold mass that the samples do not see.

    ``share``: that mass as a part of what the samples see; None where the search was not afforded.
    """
    name = "lost modes"
    if share is None:
        return not_afforded(name)
    meaning = f"standard errors; {share:.2g} of the mass is where samples do not go"
    bars = math.log1p(share) / max(stderr, 1e-12)
    return at_most(name, bars, LOST_MODES.soft, meaning, hard=LOST_MODES.hard)


def observables_against_exact(observables: Sequence[Observable]) -> list[Check]:
    """Whether averages agree with what is known; no check where nothing is."""
    off = {row.name: row.deviation_sigma for row in observables if row.exact is not None}
    if not off:
        return []
    name, worst = max(off.items(), key=lambda item: abs(item[1] or 0.0))
    meaning = f"standard errors, of {name}"
    value = abs(worst or 0.0)
    return [at_most("observables against exact", value, EXACT.soft, meaning, hard=EXACT.hard)]


def halves_agree(first: Estimate, last: Estimate) -> Check:
    """Whether the second half of a run says what the first half says."""
    return agreement("halves agree", first, last)


def bounds_in_order(sigmas_below: float) -> Check:
    """<w_F> + <w_R> is a sum of two Kullback-Leibler divergences, never negative."""
    meaning = (
        "standard errors by which the upper bound lies below the lower one, as it does when the "
        "samples of A and B are exchanged"
    )
    return comparison("bounds in order", sigmas_below, meaning)


def of_their_state(name: str, error: float, meaning: str) -> Check:
    """Whether samples have the temperature or pressure of their state."""
    return at_most(name, error, OF_THEIR_STATE.soft, meaning, hard=OF_THEIR_STATE.hard)


def samples_left_out(n_lost: int, n_kept: int) -> list[Check]:
    """Samples without a finite energy in their own state; no check where there are none."""
    if n_lost == 0:
        return []
    part, meaning = n_lost / (n_lost + n_kept), "no finite energy of their own"
    return [at_most("samples left out", part, LEFT_OUT.soft, meaning, hard=LEFT_OUT.hard)]


def failed_energies(n_failed: int, n: int) -> list[Check]:
    """Energies of samples that came out as NaN or not at all; no check where there are none."""
    if n_failed == 0:
        return []
    part, meaning = n_failed / n, "of all energies of samples, NaN or not computed"
    return [at_most("failed energies", part, FAILED.soft, meaning, hard=FAILED.hard)]


def copied_frames(
    name: str, found: Mapping[str, tuple[int, int]], what: str, hard: float = math.inf
) -> list[Check]:
    """Frames that are exact copies, of how many, by state; no check where there are none."""
    copies = {state: row for state, row in found.items() if row[0]}
    if not copies:
        return []
    state, (n, size) = max(copies.items(), key=lambda item: item[1][0] / item[1][1])
    meaning = f"{n} of {size} frames of {state} are exactly {what}"
    return [at_most(name, n / size, COPIES.soft, meaning, hard=hard)]


def one_distribution(sigmas: float, states: str) -> Check:
    """Whether samples of two states with one energy have one distribution of that energy."""
    advice = "if they differ in a parameter of the Context, make it the default of each XML"
    meaning = f"standard errors; {states} have one energy ({advice})"
    return comparison("one energy, one distribution", sigmas, meaning)


def crossings(n: float, meaning: str) -> Check:
    """Whether chains have gone between two basins often enough to compare them."""
    return at_least("crossings", n, CROSSINGS.soft, meaning, hard=CROSSINGS.hard)


def chance_of(name: str, chance: float, meaning: str) -> Check:
    """A comparison known by its probability: as many standard errors as are as improbable."""
    return comparison(name, deviation_of(chance), meaning)


def scatter(name: str, total: float, freedom: float, meaning: str) -> Check:
    """Whether a chi-squared of ``freedom`` degrees is larger than chance allows."""
    return chance_of(name, float(chi2.sf(total, freedom)), meaning)


def energy_repeats(moved: float) -> Check:
    """Whether energies at the end of a run are those of its beginning; ``moved`` in its errors."""
    meaning = "errors of the result that changes of the energy from call to call make"
    return at_most("energy repeats", moved, ENERGY_CHANGES.soft, meaning, hard=ENERGY_CHANGES.hard)


def forces_fit(bias: float) -> Check:
    """Whether forces are the gradient of the energy; ``bias`` in standard errors of the result."""
    meaning = "errors of the result, from work of the forces less change of the energy"
    return at_most("forces fit the energy", bias, FORCES.soft, meaning, hard=FORCES.hard)


def traces_fit(bias: float) -> Check:
    """Whether control variates have the mean zero; ``bias`` in standard errors of the result."""
    meaning = "errors of the result, from traces less differences of gradients"
    return at_most("traces fit the gradients", bias, FORCES.soft, meaning, hard=FORCES.hard)


def not_afforded(name: str) -> Check:
    """A check that ``max_evaluations`` did not reach counts as failed."""
    return Check(name, math.nan, math.nan, False, "soft", "max_evaluations did not reach it")
