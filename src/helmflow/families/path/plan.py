"""Where to sample: nodes of the ladder and chains at each."""

from dataclasses import dataclass

import numpy as np

from helmflow.densities.gaussian import Gaussian
from helmflow.estimators.nodes import Ladder, Nodes
from helmflow.families.path.problem import Problem
from helmflow.settings import Settings
from helmflow.streams import stream

PILOT = 256
"""Draws from the base that decide how many nodes the ladder needs."""

GAP = 1.4
"""Largest spread of (step in lambda) x work between neighbouring nodes, in kT."""

NODES = (5, 24)
"""Fewest and most nodes of a ladder."""

CHAINS = (192, 64)
"""Chains in all: for compiled energies, and for those that cost milliseconds each."""

LEAST_CHAINS = (16, 8)
"""Chains per node, likewise."""

FLOW_CHAINS = (64, 32)
"""Draws of a flow, and chains at its target, per sweep."""

BURN_IN, FIRST_SWEEPS = 6, 10
"""Sweeps from the base to the nodes (and as many at rest), and of the first recorded round."""


@dataclass(frozen=True)
class Plan:
    """Nodes, chains at each, and the length of the first round."""

    lam: np.ndarray  # (K,)
    chains: np.ndarray  # (K,)
    controls: bool  # whether control variates are used
    burn_in: int
    sweeps: int
    max_rounds: int


def make_plan(
    problem: Problem, base: Gaussian, settings: Settings, n_nodes: int | None = None
) -> Plan:
    """Nodes close enough to overlap; chains where the integral's variance comes from.

    ``n_nodes`` of a ladder whose settings leave it open; otherwise what draws of the base say.
    """
    sampling, method = settings.sampling, settings.method
    if method == "fep":
        lam, weight = np.array([0.0]), np.array([1.0])
    elif method in ("bar", "flow"):
        lam, weight = np.array([0.0, 1.0]), np.array([0.5, 0.5])
    else:
        ladder = Ladder.lobatto(
            sampling.nodes or n_nodes or _node_count(problem, base, settings.seed)
        )
        # The spread of the corrected work grows roughly like this from base to target.
        lam, weight = ladder.lam, ladder.weight * (0.3 + ladder.lam)
    chains = _chains(problem, weight, sampling.chains)
    if method == "flow" and sampling.chains is None:
        chains = np.array(FLOW_CHAINS)
    return Plan(
        lam=lam,
        chains=chains,
        controls=method == "auto",
        burn_in=BURN_IN if sampling.burn_in is None else sampling.burn_in,
        sweeps=sampling.steps or FIRST_SWEEPS,
        max_rounds=sampling.max_rounds,
    )


def finer(samples: Nodes) -> int:
    """Nodes of a finer ladder: intervals halved, and as short as the measured spread of w asks."""
    spread = np.array([w.std() for w in samples.work])
    for n_nodes in range(2 * len(samples.lam) - 1, NODES[1]):
        lam = Ladder.lobatto(n_nodes).lam
        middle = 0.5 * (lam[1:] + lam[:-1])
        if (np.diff(lam) * np.interp(middle, samples.lam, spread)).max() <= GAP:
            return n_nodes
    return NODES[1]


def _chains(problem: Problem, weight: np.ndarray, wanted: int | None) -> np.ndarray:
    if wanted is not None:
        return np.full(len(weight), wanted)
    total, least = CHAINS[problem.costly], LEAST_CHAINS[problem.costly]
    total = max(total, least * len(weight))
    chains = np.maximum(np.rint(total * weight / weight.sum()), least).astype(int)
    chains[0] = max(chains[0], 4 * least)  # draws from the base need no trajectory
    chains[-1] = max(chains[-1], 2 * least)  # observables come from the target
    return chains


def _node_count(problem: Problem, base: Gaussian, seed: int) -> int:
    u = base.sample(PILOT // 4 if problem.costly else PILOT, stream(seed, "pilot"))
    work = problem.target(u)[0] + base.log_prob(u)
    low, high = np.quantile(work.numpy(), (0.16, 0.84))  # one sigma, robust against one wild draw
    spread = 0.5 * (high - low)
    for n_nodes in range(NODES[0], NODES[1]):
        if np.diff(Ladder.lobatto(n_nodes).lam).max() * spread <= GAP:
            return n_nodes
    return NODES[1]
