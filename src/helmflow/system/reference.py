"""Published and exact values to compare with."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """A published or exact value to compare with; free energies and ln Z are in kT (nats).

    ``stderr`` is one standard error, 0 for an exact value and None where none was published;
    ``per`` is "particle" or "system"; ``source`` is a DOI or how the value was computed.
    """

    quantity: str
    value: float
    stderr: float | None
    per: str
    source: str
    note: str
