"""A flow fitted to chains of angles by maximum likelihood, with a part of them held out."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from helmflow.bijectors.base import Chain
from helmflow.bijectors.circle_maps import Rotation
from helmflow.bijectors.elementwise import Composed
from helmflow.bijectors.splines import CircularSpline
from helmflow.bijectors.torus_flows import TorusAutoregressive
from helmflow.densities.flow import Flow
from helmflow.densities.uniform import Uniform
from helmflow.estimators.autocorrelation import integrated_autocorrelation
from helmflow.estimators.estimate import Estimate
from helmflow.manifolds.torus import Torus
from helmflow.nets.mlp import Conditioner
from helmflow.objectives.divergences import forward_kl
from helmflow.skeleton.kept import Form, Kept
from helmflow.streams import stream
from helmflow.training.plan import Cosine, TrainingPlan
from helmflow.training.stochastic import train

TRAIN, STOP = 0.7, 0.15
"""Of every chain: its first part is fitted, the next tells when to stop, the last is held out."""

SIZES = ((6, 12), (8, 16), (12, 24))
"""Bins of the splines, and width of the nets."""

ROUNDS, STEPS, BATCH, LEARNING_RATE = 24, 50, 512, 1e-2
PATIENCE = 4
"""Rounds without gain on the second part of the chains after which a fit ends."""

KIND = "flow fitted to angles"
"""What its file says."""

HISTOGRAMS = (10, 15, 20, 30, 40, 60)
"""Cells along every angle of the histograms that a flow is compared with."""


@dataclass(frozen=True)
class Fit:
    """Mean log densities (nats) on the parts of the chains, and that of a histogram held out."""

    name: str
    train: float
    held_out: Estimate
    histogram: float
    size: tuple[int, int] = SIZES[0]


def _parts(x: np.ndarray, log_w: np.ndarray) -> list[tuple[Tensor, Tensor]]:
    """Points and normalised weights of the three parts of the chains."""
    n = x.shape[1]
    ends = [0, int(TRAIN * n), int((TRAIN + STOP) * n), n]
    parts = []
    for low, high in itertools.pairwise(ends):
        points = torch.from_numpy(x[:, low:high].reshape(-1, x.shape[2]))
        weights = torch.from_numpy(log_w[:, low:high].reshape(-1)).softmax(0)
        parts.append((points, weights))
    return parts


def fit_likelihood(x: np.ndarray, log_w: np.ndarray, seed: int) -> tuple[Flow, Fit]:
    """The flow of the size, and after the number of steps, that the second part likes best.

    ``x`` (chains, n, D) angles, ``log_w`` (chains, n) log weights.
    """
    learn, stop, test = _parts(x, log_w)
    best: dict[str, Tensor] = {}
    best_value, name = -math.inf, ""
    for bins, width in SIZES:
        flow = _new_flow(x.shape[2], bins, width, seed)
        waited = 0
        for k in range(ROUNDS):
            plan = TrainingPlan(
                STEPS, BATCH, LEARNING_RATE, schedule=Cosine(floor=1.0), ema_decay=0.9
            )
            generator = stream(seed, f"likelihood {bins} {k}")
            train(flow, lambda n, g, f=flow: _loss(f, learn, n, g), plan, generator)
            value = _mean_log_prob(flow, stop)
            waited += 1
            if value > best_value:
                state, best_value, waited = flow.bijector.state_dict(), value, 0
                best = {key: tensor.clone() for key, tensor in state.items()}
                name, size = f"autoregressive splines, {bins} bins, 2 layers", (bins, width)
            if waited >= PATIENCE:
                break
    flow = _new_flow(x.shape[2], size[0], size[1], seed)
    flow.bijector.load_state_dict(best)
    flow.requires_grad_(requires_grad=False)
    held_out = _held_out(flow, x, log_w)
    histogram = _histogram_score(learn, test)
    return flow, Fit(name, _mean_log_prob(flow, learn), held_out, histogram, size)


def _pack(made: tuple[Flow, tuple[int, int]]) -> Kept:
    flow, (bins, width) = made
    facts = {"angles": flow.base.manifold.dim, "bins": bins, "width": width}
    return Kept(flow.bijector.state_dict(), facts, KIND)


def _unpack(kept: Kept) -> tuple[Flow, tuple[int, int]]:
    facts = kept.facts
    size = facts["bins"], facts["width"]
    flow = _new_flow(facts["angles"], *size, seed=0)
    flow.bijector.load_state_dict(dict(kept.tensors))
    return flow.requires_grad_(requires_grad=False), size


FORM = Form(_pack, _unpack)
"""Of a fitted flow and its size."""


def _new_flow(dim: int, bins: int, width: int, seed: int) -> Flow:
    circle = Composed([CircularSpline(bins), Rotation()])
    generator = stream(seed, f"network {bins}")
    orders = (range(dim), range(dim)[::-1])
    layers = [
        TorusAutoregressive(dim, circle, Conditioner([width], generator), order=order)
        for order in orders
    ]
    return Flow(Uniform(Torus(dim)), Chain(layers))


def _loss(flow: Flow, part: tuple[Tensor, Tensor], n: int, generator: torch.Generator) -> Tensor:
    points, weights = part
    drawn = torch.multinomial(weights, n, replacement=True, generator=generator)
    return forward_kl(flow, points[drawn])


def _mean_log_prob(flow: Flow, part: tuple[Tensor, Tensor]) -> float:
    with torch.no_grad():
        return float(part[1] @ flow.log_prob(part[0]))


def _held_out(flow: Flow, x: np.ndarray, log_w: np.ndarray) -> Estimate:
    """Weighted mean of log q over the last part of the chains, with its error."""
    start = int((TRAIN + STOP) * x.shape[1])
    points, log_w = x[:, start:], log_w[:, start:]
    with torch.no_grad():
        log_q = flow.log_prob(torch.from_numpy(points.reshape(-1, x.shape[2]))).numpy()
    log_q = log_q.reshape(log_w.shape)
    share = np.exp(log_w - log_w.max())
    share /= share.mean()
    mean = float((share * log_q).mean())
    series = share * (log_q - mean)
    correlation = integrated_autocorrelation(series)
    stderr = correlation.error_of_mean(float(series.var()))
    return Estimate(
        mean, stderr, correlation.n_eff, "held out", {"tau_int": correlation.tau_int}, "nat"
    )


def _histogram_score(learn: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    """The same of the best histogram there is: 10 to 60 cells, a thousandth spread evenly."""
    dim = learn[0].shape[1]
    return max(
        float(test[1].numpy() @ np.log(_cells(learn, test[0].numpy(), cells, dim)))
        for cells in HISTOGRAMS
    )


def _cells(learn: tuple[Tensor, Tensor], at: np.ndarray, cells: int, dim: int) -> np.ndarray:
    edges = [np.linspace(0.0, 2.0 * math.pi, cells + 1)] * dim
    density, _ = np.histogramdd(learn[0].numpy(), edges, weights=learn[1].numpy(), density=True)
    place = tuple(np.minimum((at * cells / (2.0 * math.pi)).astype(int), cells - 1).T)
    return 0.999 * density[place] + 0.001 / (2.0 * math.pi) ** dim
