"""How a free energy is computed: closed, typed settings from a TOML file and flags."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from helmflow.tables import ClosedTable, parse_table, read_toml

Method = Literal["auto", "fep", "bar", "ti", "frenkel_ladd"]
TARGET_ERRORS = {"crystal": 1e-4, "lattice_field": 1e-2}


class BaseSettings(ClosedTable):
    """The reference (base) density."""

    kind: Literal["auto", "harmonic", "self_consistent"] = Field(
        "auto", description="phonons of the potential, or fitted to the crystal at temperature"
    )
    iterations: int | None = Field(None, ge=1, description="of the self-consistent fit")


class SamplingSettings(ClosedTable):
    """Markov chains at the nodes between base and target; None: chosen by the recipe."""

    nodes: int | None = Field(
        None, ge=5, le=200, description="values of lambda, both ends included"
    )
    chains: int | None = Field(
        None, ge=4, le=100_000, description="independent chains at every node"
    )
    burn_in: int | None = Field(None, ge=0, description="discarded steps of every chain")
    steps: int | None = Field(
        None, ge=1, le=1_000_000, description="recorded steps per chain and round"
    )
    max_rounds: int = Field(50, ge=1, description="rounds before giving up on target_error")


class Settings(ClosedTable):
    """Everything a run depends on besides the system; written in full to ``settings.toml``."""

    method: Method = Field("auto", description="the estimator that gives the headline number")
    seed: int = Field(0, ge=0, lt=2**63, description="of every random number in the run")
    target_error: float | None = Field(
        None,
        ge=1e-12,
        description="standard error to reach: kT per particle, for fields nats",
    )
    threads: int = Field(
        1, ge=1, le=1024, description="processor threads; they never change a number"
    )
    max_evaluations: int | None = Field(None, ge=1, description="energies before giving up")
    base: BaseSettings = Field(default_factory=BaseSettings)
    sampling: SamplingSettings = Field(default_factory=SamplingSettings)

    def resolved(self, kind: str) -> "Settings":
        """A copy with the default ``target_error`` of the kind of system filled in."""
        if self.target_error is not None:
            return self
        return self.model_copy(update={"target_error": TARGET_ERRORS[kind]})

    def to_toml(self) -> str:
        """Every setting with its meaning as a comment; ``load_settings`` reads it back."""
        tables = {name: value for name, value in self if isinstance(value, ClosedTable)}
        lines = _lines(self, skip=tables)
        for name, table in tables.items():
            lines += ["", f"[{name}]", *_lines(table)]
        return "\n".join(lines) + "\n"


def load_settings(path: Path | None, flags: Mapping[str, object]) -> Settings:
    """Read settings from a TOML file (or none), with the ``flags`` that are not None on top.

    Raises ``InputError`` naming the key, for example ``sampling.chians``, with a suggestion.
    """
    table = {} if path is None else read_toml(path, "settings")
    table |= {name: value for name, value in flags.items() if value is not None}
    return parse_table(Settings, table)


def _lines(table: ClosedTable, skip: Mapping[str, object] | None = None) -> list[str]:
    lines = []
    for name, info in type(table).model_fields.items():
        value = getattr(table, name)
        if name in (skip or {}):
            continue
        # TOML has no null: a setting left to the recipe is written as a comment
        entry = f"# {name} = auto" if value is None else f"{name} = {_toml(value)}"
        lines.append(f"{entry:<34} # {info.description}")
    return lines


def _toml(value: str | int | float) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)
