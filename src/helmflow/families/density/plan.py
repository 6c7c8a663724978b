"""How flows of densities are fitted: their sizes, steps, and when something else is tried."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from helmflow.families.density.modes import SearchPlan
from helmflow.manifolds.base import Manifold
from helmflow.training.plan import TrainingPlan
from helmflow.training.replay import ReplayPlan

POTENTIAL_MAPS: Mapping[str, Sequence[tuple[float, ...]]] = {
    "T1": ((8, 64), (24, 192)),
    "T2": ((6, 24), (10, 48), (16, 64)),
    "S1": ((24, 8.0, 48), (64, 40.0, 128)),
    "S2": ((100, 4.0, 16), (200, 6.0, 20), (400, 10.0, 40)),
    "S3": ((300, 6.0, 12), (700, 8.0, 16)),
}
DESCENT = TrainingPlan(80, 256, 1e-2, clip_norm=5.0)
REPLAY = ReplayPlan(rounds=14, fresh=16_384, updates=30, batch=512, learning_rate=1e-2)
CONTEST = replace(REPLAY, rounds=6, fresh=4096)


@dataclass(frozen=True)
class DensityPlan:
    """What `helmflow.families.density` does to fit a flow.

    maps: sizes of the potential maps of a manifold: radius in Fourier space, or centres and their
        sharpness, and last the nodes per dimension that it is fitted with.
    descent: of each stage of the first phase of a training, on the reverse divergence.
    powers: of the target in these stages: a flow that starts out wide loses fewer modes.
    close: half the variance of the work, in nats, below which second-order steps are of use.
    points, refinements: fresh points of each such step, and steps from one damping to the next.
    replay, replays: of splines, for a density that such a flow does not come close to.
    contest: to choose among the angles of these splines.
    search: for modes that a flow has lost.
    most_angles: above it a flow starts as splines: all others cost the square of their number.
    """

    maps: Mapping[str, Sequence[tuple[float, ...]]] = field(default_factory=lambda: POTENTIAL_MAPS)
    descent: TrainingPlan = DESCENT
    powers: tuple[float, ...] = (0.1, 0.3, 0.6, 1.0)
    close: float = 2.0
    points: int = 1024
    refinements: int = 12
    damping: tuple[float, ...] = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4)
    replay: ReplayPlan = REPLAY
    replays: int = 3
    contest: ReplayPlan = CONTEST
    search: SearchPlan = field(default_factory=SearchPlan)
    most_angles: int = 16

    def sizes(self, manifold: Manifold) -> Sequence[tuple[float, ...]]:
        """Of the potential maps of a manifold: none where they are no use."""
        return self.maps.get(repr(manifold.cover), ())
