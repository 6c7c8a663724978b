"""OpenMM Systems between two others, and what differs between the two."""

from collections.abc import Iterator
from typing import TYPE_CHECKING
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from helmflow.errors import InputError

if TYPE_CHECKING:
    import openmm

PARTICLES = (
    "index",
    "particle",
    "p",
    *(f"{p}{k}" for p in ("p", "particle") for k in range(1, 6)),
)
"""Attributes of a term that name a particle."""

DISCRETE = frozenset({*PARTICLES, "periodicity", "name", "group1", "group2", "set1", "set2"})
"""Attributes of a term of which there is no value in between."""


def interpolated_system(a: "openmm.System", b: "openmm.System", lam: float) -> "openmm.System":
    """The System whose parameters are (1 - lambda) those of a plus lambda those of b.

    Charges, radii, force constants, per-particle and global parameters: every number in which the
    XML of the two differs. lambda may lie outside of [0, 1]. Box and masses are those of a. Raises
    ``InputError`` for systems that differ in anything else: forces, expressions, particles.
    """
    from openmm import XmlSerializer

    first, last = _tree(a), _tree(b)
    for mine, theirs, name in _differences(first, last):
        low, high = float(mine.attrib[name]), float(theirs.attrib[name])
        mine.set(name, repr((1.0 - lam) * low + lam * high))
    return XmlSerializer.deserialize(ElementTree.tostring(first, encoding="unicode"))


def changed_particles(a: "openmm.System", b: "openmm.System") -> list[int]:
    """Particles that have another parameter in b than in a, or are in a term that has.

    Raises ``InputError`` as `interpolated_system`.
    """
    first, last = _tree(a), _tree(b)
    place = {
        id(child): k
        for parent in first.iter("Particles")
        for k, child in enumerate(parent.findall("Particle"))
    }
    differing: set[int] = set()
    for element, _, _ in _differences(first, last):
        named = [int(element.attrib[name]) for name in PARTICLES if name in element.attrib]
        if not named and id(element) in place:
            named = [place[id(element)]]
        differing.update(named)
    return sorted(differing)


def _tree(system: "openmm.System") -> Element:
    from openmm import XmlSerializer

    return ElementTree.fromstring(XmlSerializer.serialize(system))


def _differences(a: Element, b: Element) -> Iterator[tuple[Element, Element, str]]:
    """Elements of a and b and the name of an attribute in which they differ by a number."""
    if a.tag != b.tag or len(a) != len(b) or a.attrib.keys() != b.attrib.keys():
        raise _cannot(a, f"{len(a)} entries in one and {len(b)} in the other")
    if a.tag == "PeriodicBoxVectors":
        return
    for name in a.attrib:
        if a.attrib[name] == b.attrib[name] or name == "mass":
            continue
        numbers = _is_number(a.attrib[name]) and _is_number(b.attrib[name])
        if a.tag in ("System", "Force") or name in DISCRETE or not numbers:
            raise _cannot(a, f"{name} {a.attrib[name]!r} and {b.attrib[name]!r}")
        yield a, b, name
    for mine, theirs in zip(a, b, strict=True):
        yield from _differences(mine, theirs)


def _cannot(element: Element, got: str) -> InputError:
    return InputError(
        "system-b",
        "the forces and terms of system-a with other numbers in them, to go between the two",
        f"in {element.tag}: {got}",
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
