"""Samples along a path between two states, and functions of known mean that go with them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Ladder:
    """Nodes and weights of the integral over lambda from 0 to 1, both ends included."""

    lam: Array  # (K,)
    weight: Array  # (K,)

    @classmethod
    def lobatto(cls, n_nodes: int) -> "Ladder":
        """Gauss-Lobatto rule: exact for polynomials of degree 2 n_nodes - 3.

        The end lambda = 0 is the base, whose samples are free and exact; the end lambda = 1 is
        the target, whose samples give observables. Neither costs anything in order compared with
        Gauss-Legendre on the n_nodes - 1 other nodes. A single node is the base alone.
        """
        if n_nodes == 1:
            return cls(np.zeros(1), np.ones(1))
        legendre = np.polynomial.legendre.Legendre.basis(n_nodes - 1)
        x = np.concatenate([[-1.0], np.sort(legendre.deriv().roots().real), [1.0]])
        weight = 1.0 / (n_nodes * (n_nodes - 1) * legendre(x) ** 2)
        return cls(0.5 * (x + 1.0), weight)


@dataclass(frozen=True)
class Nodes:
    """Samples of u_lambda on the way from a state A (lambda = 0) to a state B, node after node.

    lam, weight: of the quadrature over lambda, (K,). work: du_lambda/dlambda in kT, (T, B) per
    node, T successive samples of B independent chains; u_B - u_A on a straight path. stein:
    (F, T, B) per node, functions whose exact mean under u_lambda is zero, or None.
    """

    lam: Array
    weight: Array
    work: Sequence[Array]
    stein: Sequence[Array] | None

    @classmethod
    def from_columns(cls, lam: Array, node: Array, work: Array, stein: Array) -> "Nodes":
        """Split columns (chains) by Gauss-Lobatto node: work (T, chains), stein (T, F, chains)."""
        nodes = range(len(lam))
        split = [stein[:, :, node == k].transpose(1, 0, 2) for k in nodes]
        return cls(
            lam,
            Ladder.lobatto(len(lam)).weight,
            [work[:, node == k] for k in nodes],
            split if stein.shape[1] else None,
        )

    def half(self, first: int) -> "Nodes":
        """Every other chain, from the chain ``first`` on."""
        return self._selected(lambda a: a[..., first::2])

    def part(self, cut: slice) -> "Nodes":
        """The samples of all chains between two times."""
        return self._selected(lambda a: a[..., cut, :])

    def split(self, fraction: float) -> "tuple[Nodes, Nodes]":
        """The first ``fraction`` of the samples in the order of time, and the rest."""

        def cut(a: Array) -> tuple[Array, Array]:
            flat = a.reshape(*a.shape[:-2], 1, -1)
            n = round(fraction * flat.shape[-1])
            return flat[..., :n], flat[..., n:]

        return self._selected(lambda a: cut(a)[0]), self._selected(lambda a: cut(a)[1])

    def _selected(self, select: Callable[[Array], Array]) -> "Nodes":
        stein = None if self.stein is None else [select(s) for s in self.stein]
        return replace(self, work=[select(w) for w in self.work], stein=stein)

    def regression(self, basis: Array, scale: Array) -> tuple[Array, Array]:
        """Normal equations of the work on the Stein functions, coefficients following lambda.

        sum_k scale_k sum_samples (w - <w> - sum_pf c_pf basis_kp (S_f - <S_f>))^2

        basis: (K, P), functions of lambda at the nodes; scale: (K,). Columns are (p, f).
        """
        matrix = right = np.zeros(())
        for row, factor, work, stein in zip(
            basis, scale, self.work, self.stein or [], strict=True
        ):
            s = stein.reshape(len(stein), -1)
            s = s - s.mean(1, keepdims=True)
            matrix = matrix + factor * np.kron(np.outer(row, row), s @ s.T)
            right = right + factor * np.kron(row, s @ (work.ravel() - work.mean()))
        return matrix, right

    def corrected(self, weights: Array) -> list[Array]:
        """Work minus ``weights`` (K, F) times the Stein functions: the same mean, less spread."""
        stein = self.stein or []
        return [
            w - np.tensordot(c, s, 1) for w, c, s in zip(self.work, weights, stein, strict=True)
        ]

    def cross_fitted(self, fit: "Fit") -> list[Array]:
        """The same with weights that never saw the chain they are applied to.

        ``fit`` makes weights (K, F) of one half of the chains, for the other.
        """
        work = [w.copy() for w in self.work]
        for first in (0, 1):
            corrected = self.half(first).corrected(fit(self.half(1 - first)))
            for w, half in zip(work, corrected, strict=True):
                w[:, first::2] = half
        return work

    def arrays(self) -> Mapping[str, Array]:
        """One row per sample: its node, chain and step, work and Stein functions (controls)."""
        steps = [np.broadcast_to(np.arange(len(w))[:, None], w.shape) for w in self.work]
        chains = [np.broadcast_to(np.arange(w.shape[1]), w.shape) for w in self.work]
        arrays = {
            "lam": self.lam,
            "node": np.repeat(np.arange(len(self.lam)), [w.size for w in self.work]),
            "chain": joined(chains),
            "step": joined(steps),
            "work": joined(self.work),
        }
        if self.stein is not None:
            flat = [s.reshape(len(s), -1) for s in self.stein]
            arrays["controls"] = np.concatenate(flat, axis=1)
        return arrays


Fit = Callable[[Nodes], Array]
"""Weights (K, F) of the Stein functions at every node, from samples."""


def joined(parts: Sequence[Array]) -> Array:
    """Samples of all nodes in one row."""
    return np.concatenate([part.ravel() for part in parts])
