"""Bonds, angles and torsions of a molecule as coordinates."""

import math
from collections.abc import Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor

from helmflow.bijectors.base import Bijector
from helmflow.errors import InputError
from helmflow.manifolds.links import wrapped
from helmflow.shapes import Configs, Particles, Values

AXIS, PLANE = -1, -2
"""Places of two points fixed to the first atom: one above it, one beside that."""


class Entry(NamedTuple):
    """One row of a Z-matrix: ``atom`` by its distance to ``bond``, angle and torsion.

    ``sibling`` is an atom of the same bond, angle and torsion partners that was placed before, or
    None: the torsion is then counted from the sibling's, which makes it stiff.
    """

    atom: int
    bond: int
    angle: int
    torsion: int
    sibling: int | None


def z_matrix(n_atoms: int, bonds: Sequence[tuple[int, int]]) -> tuple[Entry, ...]:
    """Internal coordinates of a molecule, from its bonds, every atom but the first.

    Raises ``InputError`` unless bonds connect all atoms.
    """
    near: list[list[int]] = [[] for _ in range(n_atoms)]
    for i, j in bonds:
        near[i].append(j)
        near[j].append(i)
    # Start at an end of the backbone's heavy part: an atom with most neighbours comes first.
    first = max(range(n_atoms), key=lambda i: (len(near[i]), -i))
    parent: dict[int, int] = {first: AXIS}
    order = [first]
    for atom in order:
        for other in sorted(near[atom], key=lambda i: (-len(near[i]), i)):
            if other not in parent:
                parent[other] = atom
                order.append(other)
    if len(order) != n_atoms:
        raise InputError("topology", "one molecule, connected by bonds", f"{len(order)} atoms")
    entries: list[Entry] = []
    leader: dict[tuple[int, int], int] = {}
    for atom in order[1:]:
        bond = parent[atom]
        angle, torsion = _partners(bond, parent, entries)
        sibling = leader.get((bond, angle))
        entries.append(Entry(atom, bond, angle, torsion, sibling))
        leader.setdefault((bond, angle), atom)
    return tuple(entries)


def _partners(bond: int, parent: dict[int, int], entries: list[Entry]) -> tuple[int, int]:
    """What angle and torsion of an atom bonded to ``bond`` are measured from."""
    angle = parent[bond]
    if angle != AXIS:
        above = parent[angle]
        if above != AXIS:
            return angle, above
        beside = next((e.atom for e in entries if e.bond == angle and e.atom != bond), AXIS)
        return angle, beside
    # Atoms of the first atom: the first of them points anywhere, the others from it.
    placed = [e.atom for e in entries if e.bond == bond]
    if not placed:
        return AXIS, PLANE
    return placed[0], AXIS


@final
class InternalCoordinates(Bijector):
    """Positions (batch, n, 3) to coordinates (batch, 3n) and back.

    The first three are the position of the first atom; then bond lengths, angles, and torsions of
    the other n - 1 atoms in the order of the Z-matrix, torsions within pi of ``centres`` (n - 1,).
    Two angles and a torsion among them say how the molecule is turned.

        log|det dq/dx| = -sum ln(b^2 sin theta)

    Inverse: coordinates outside of their ranges (b > 0, 0 < theta < pi, |torsion - centre| < pi)
    belong to no molecule and give positions NaN. Raises ``InputError`` for shapes that do not fit.
    """

    def __init__(self, entries: Sequence[Entry], *, centres: Tensor | None = None) -> None:
        super().__init__()
        self.entries = tuple(entries)
        self.n_atoms = len(self.entries) + 1
        placed = {e.atom for e in self.entries}
        self.first = next(i for i in range(self.n_atoms) if i not in placed)
        zeros = torch.zeros(len(self.entries), dtype=torch.float64)
        if centres is not None and centres.shape != zeros.shape:
            raise InputError("centres", f"shape ({len(zeros)},)", tuple(centres.shape))
        self.register_buffer("centres", zeros if centres is None else centres)
        columns = [[e.atom, e.bond, e.angle, e.torsion] for e in self.entries]
        # Positions are extended by the two fixed points, which are then the last two.
        self.register_buffer("places", torch.tensor(columns).T % (self.n_atoms + 2))
        row = {e.atom: k for k, e in enumerate(self.entries)}
        self._siblings = [-1 if e.sibling is None else row[e.sibling] for e in self.entries]

    centres: Tensor
    places: Tensor

    @property
    def internal(self) -> Tensor:
        """Indices of the 3n - 6 coordinates that the energy depends on."""
        n = self.n_atoms - 1
        frame = {0, 1, 2}
        for k, entry in enumerate(self.entries):
            if entry.angle == AXIS:
                frame |= {3 + n + k, 3 + 2 * n + k}
            elif entry.torsion == AXIS and entry.sibling is None:
                frame.add(3 + 2 * n + k)
        return torch.tensor([i for i in range(3 * self.n_atoms) if i not in frame])

    @property
    def torsions(self) -> Tensor:
        """Indices of the torsions."""
        n = self.n_atoms - 1
        return torch.arange(3 + 2 * n, 3 + 3 * n)

    def forward(self, x: Particles) -> tuple[Configs, Values]:
        if x.shape[1:] != (self.n_atoms, 3):
            raise InputError("x", f"shape (batch, {self.n_atoms}, 3)", tuple(x.shape))
        extended = torch.cat([x, *self._fixed(x[:, self.first])], dim=1)
        atom, bond, angle, torsion = (extended[:, index] for index in self.places)
        b, theta, phi = _measure(atom, bond, angle, torsion)
        turns = [
            phi[:, k] if s < 0 else phi[:, k] - phi[:, s] for k, s in enumerate(self._siblings)
        ]
        phi = wrapped(torch.stack(turns, dim=1) - self.centres) + self.centres
        q = torch.cat([x[:, self.first], b, theta, phi], dim=1)
        return q, -(2.0 * b.log() + theta.sin().log()).sum(1)

    def inverse(self, y: Configs) -> tuple[Particles, Values]:
        n = self.n_atoms - 1
        if y.shape[1:] != (3 * self.n_atoms,):
            raise InputError("q", f"shape (batch, {3 * self.n_atoms})", tuple(y.shape))
        b, theta, phi = (y[:, 3 + k * n : 3 + (k + 1) * n] for k in range(3))
        possible = (b > 0.0) & (theta > 0.0) & (theta < math.pi)
        possible &= (phi - self.centres).abs() <= math.pi
        valid = possible.all(1, keepdim=True)
        b = torch.where(valid, b, torch.nan)
        placed: dict[int, Tensor] = {self.first: y[:, :3]}
        beside, above = self._fixed(y[:, :3])
        placed[self.n_atoms], placed[self.n_atoms + 1] = beside[:, 0], above[:, 0]
        absolute: list[Tensor] = []
        for k, sibling in enumerate(self._siblings):
            turn = phi[:, k] if sibling < 0 else phi[:, k] + absolute[sibling]
            absolute.append(turn)
            atom, bond, angle, torsion = self.places[:, k].tolist()
            frame = placed[bond], placed[angle], placed[torsion]
            placed[atom] = _place(*frame, b[:, k], theta[:, k], turn)
        x = torch.stack([placed[i] for i in range(self.n_atoms)], dim=1)
        return x, (2.0 * b.log() + theta.sin().log()).sum(1)

    @staticmethod
    def _fixed(origin: Tensor) -> tuple[Tensor, Tensor]:
        """The points beside and above the first atom, in the order of PLANE, AXIS."""
        above = origin + origin.new_tensor([0.0, 0.0, 1.0])
        beside = above + origin.new_tensor([1.0, 0.0, 0.0])
        return beside[:, None], above[:, None]


def _measure(atom: Tensor, bond: Tensor, angle: Tensor, torsion: Tensor) -> tuple[Tensor, ...]:
    """Bond lengths, angles and torsions (batch, entries)."""
    d, e, f = atom - bond, angle - bond, torsion - angle
    b = d.norm(dim=-1)
    across = torch.linalg.cross(d, e, dim=-1)
    theta = torch.atan2(across.norm(dim=-1), (d * e).sum(-1))
    normal = torch.linalg.cross(e, f, dim=-1)
    along = e / e.norm(dim=-1, keepdim=True)
    side = torch.linalg.cross(along, normal, dim=-1)
    phi = torch.atan2(-(d * normal).sum(-1), (d * side).sum(-1))
    return b, theta, phi


def _place(
    bond: Tensor, angle: Tensor, torsion: Tensor, b: Tensor, theta: Tensor, phi: Tensor
) -> Tensor:
    """The position (batch, 3) with the given bond, angle and torsion."""
    e, f = angle - bond, torsion - angle
    along = e / e.norm(dim=-1, keepdim=True)
    normal = torch.linalg.cross(along, f, dim=-1)
    normal = normal / normal.norm(dim=-1, keepdim=True)
    side = torch.linalg.cross(along, normal, dim=-1)
    across = phi.cos()[:, None] * side - phi.sin()[:, None] * normal
    direction = theta.cos()[:, None] * along + theta.sin()[:, None] * across
    return bond + b[:, None] * direction
