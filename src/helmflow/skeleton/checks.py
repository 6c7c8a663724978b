"""Every check of the certificate with its limits, each in one place, with their source."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.special import erfc, ndtri
from scipy.stats import chi2

from helmflow.estimators.estimate import Estimate
from helmflow.results import Check, Observable, ReferenceDeviation
from helmflow.skeleton.limits import (
    BARRIER,
    BROKEN,
    COMPARISONS,
    COPIES,
    CROSSINGS,
    EFFECTIVE_SAMPLES,
    ENERGY_CHANGES,
    EXACT,
    FAILED,
    FORCES,
    INTEGRATOR,
    KNOWN,
    LEFT_OUT,
    LOG_DET,
    LOST_MODES,
    MODES,
    NEGLIGIBLE,
    OF_THEIR_STATE,
    OVERLAP,
    PARETO_K,
    SYMMETRY,
    UNEQUILIBRATED,
    Limit,
)

Array = np.ndarray


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


def within(name: str, value: float, limit: Limit, meaning: str) -> Check:
    """`at_most` with both limits."""
    return at_most(name, value, limit.soft, meaning, hard=limit.hard)


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
    return within(name, change, SYMMETRY, "nats, of ln q")


def mirror_images(change: float) -> Check:
    """Whether configurations and their mirror images have the same energy, on target samples."""
    meaning = "kT, largest difference"
    return within("mirror images", change, SYMMETRY, meaning)


def unequal_wells(barrier: float) -> Check:
    """Whether chains cross between two wells of a field that no symmetry exchanges."""
    meaning = "kT of barrier between two wells"
    return within("unequal wells", barrier, BARRIER, meaning)


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
    return within(name, bars, LOST_MODES, meaning)


def observables_against_exact(observables: Sequence[Observable]) -> list[Check]:
    """Whether averages agree with what is known; no check where nothing is."""
    off = {row.name: row.deviation_sigma for row in observables if row.exact is not None}
    if not off:
        return []
    name, worst = max(off.items(), key=lambda item: abs(item[1] or 0.0))
    meaning = f"standard errors, of {name}"
    value = abs(worst or 0.0)
    return [within("observables against exact", value, EXACT, meaning)]


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
    return within(name, error, OF_THEIR_STATE, meaning)


def samples_left_out(n_lost: int, n_kept: int) -> list[Check]:
    """Samples without a finite energy in their own state; no check where there are none."""
    if n_lost == 0:
        return []
    part, meaning = n_lost / (n_lost + n_kept), "no finite energy of their own"
    return [within("samples left out", part, LEFT_OUT, meaning)]


def equilibrated(parts: Mapping[str, tuple[float, str]]) -> Check:
    """Whether most of every series is left; by state the part left out, and what that gained."""
    worst = max(part for part, _ in parts.values())
    meaning = "; ".join(f"{state}: {what}" for state, (_, what) in parts.items())
    return at_most("frames before equilibrium", worst, UNEQUILIBRATED, meaning)


def failed_energies(n_failed: int, n: int) -> list[Check]:
    """Energies of samples that came out as NaN or not at all; no check where there are none."""
    if n_failed == 0:
        return []
    part, meaning = n_failed / n, "of all energies of samples, NaN or not computed"
    return [within("failed energies", part, FAILED, meaning)]


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
    return within("energy repeats", moved, ENERGY_CHANGES, meaning)


def forces_fit(bias: float) -> Check:
    """Whether forces are the gradient of the energy; ``bias`` in standard errors of the result."""
    meaning = "errors of the result, from work of the forces less change of the energy"
    return within("forces fit the energy", bias, FORCES, meaning)


def traces_fit(bias: float) -> Check:
    """Whether control variates have the mean zero; ``bias`` in standard errors of the result."""
    meaning = "errors of the result, from traces less differences of gradients"
    return within("traces fit the gradients", bias, FORCES, meaning)


def not_afforded(name: str) -> Check:
    """A check that ``max_evaluations`` did not reach counts as failed."""
    return Check(name, math.nan, math.nan, False, "soft", "max_evaluations did not reach it")
