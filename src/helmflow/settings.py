"""How a free energy is computed: closed, typed settings from a TOML file and flags."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from helmflow.tables import ClosedTable, parse_table, read_toml

Method = Literal["auto", "fep", "bar", "ti", "frenkel_ladd", "flow"]
Objective = Literal["path_gradient", "reverse_kl", "log_variance", "forward_kl", "two_sided"]


class BaseSettings(ClosedTable):
    """The base density, which the path starts from."""

    kind: Literal["auto", "harmonic", "self_consistent"] = Field(
        "auto", description="phonons of the potential, or fitted to the crystal at temperature"
    )
    iterations: int | None = Field(None, ge=1, description="of the self-consistent fit")


class SamplingSettings(ClosedTable):
    """Markov chains at the nodes between base and target; None: chosen by the family."""

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


class FlowSettings(ClosedTable):
    """The flow of ``method = "flow"``."""

    kind: Literal["transport", "coupling", "local", "continuous"] | None = Field(
        None,
        description="transport: fitted; coupling, local, continuous (fields only): trained",
    )
    start: Literal["base", "lattice", "transport", "loops"] = Field(
        "base",
        description="what a flow refines: base, noisy lattice, fitted transport, loop splitting",
    )
    coupling: float | None = Field(
        None, gt=0, description="of the loop-splitting base; default: that of the theory"
    )
    source: str | None = Field(
        None, description="run directory or flow file to reuse, also of another size"
    )
    sweeps: int | None = Field(None, ge=8, description="of the chains the transport is fitted to")
    steps: int | None = Field(None, ge=1, le=1000, description="of its integrator")


class TrainingSettings(ClosedTable):
    """Stochastic training of a flow; None: chosen by the family."""

    objective: Objective | None = Field(
        None, description="what is minimised; forward_kl and two_sided need samples of the target"
    )
    steps: int | None = Field(None, ge=0, description="updates of the weights")
    batch: int = Field(128, ge=1, description="samples per step, over all processes")
    learning_rate: float | None = Field(None, gt=0, description="of Adam, after the warm-up")
    warm_up: int = Field(50, ge=0, description="steps in which the learning rate rises")
    clip_norm: float = Field(100.0, gt=0, description="longest gradient, in kT")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="of the average of the weights")
    micro_batch: int | None = Field(None, ge=1, description="samples in memory at a time")
    checkpoint_every: int = Field(100, ge=1, description="steps between checkpoints")
    softened: bool = Field(True, description="train (never evaluate) without the steep core")


class NetworkSettings(ClosedTable):
    """Size of a trained flow; None: chosen by the family."""

    layers: int | None = Field(
        None, ge=1, description="coupling layers; for local flows, sweeps over all sites"
    )
    width: int | None = Field(None, ge=2, description="of the hidden layers")
    bins: int = Field(16, ge=2, description="of the splines (coupling)")
    frequencies: int = Field(8, ge=1, description="circular features per coordinate (coupling)")
    reach: float = Field(
        1.7, gt=1, description="distance of the neighbours seen, in nearest distances (local)"
    )
    precision: Literal["single", "double"] = Field(
        "single", description="of the networks; maps and energies are in double precision"
    )
    half_gradients: bool = Field(
        False, description="gradients of the networks by products in bfloat16 (coupling)"
    )


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
    base: BaseSettings = parse_table(BaseSettings, {})
    sampling: SamplingSettings = parse_table(SamplingSettings, {})
    flow: FlowSettings = parse_table(FlowSettings, {})
    training: TrainingSettings = parse_table(TrainingSettings, {})
    network: NetworkSettings = parse_table(NetworkSettings, {})

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
    for name, value in flags.items():
        inner = table.get(name)
        if isinstance(value, Mapping) and isinstance(inner, dict):
            table[name] = inner | dict(value)
        elif value is not None:
            table[name] = value
    return parse_table(Settings, table)


def _lines(table: ClosedTable, skip: Mapping[str, object] | None = None) -> list[str]:
    lines = []
    for name, info in type(table).model_fields.items():
        value = getattr(table, name)
        if name in (skip or {}):
            continue
        # TOML has no null: a setting left to the family is written as a comment
        entry = f"# {name} = auto" if value is None else f"{name} = {_toml(value)}"
        lines.append(f"{entry:<34} # {info.description}")
    return lines


def _toml(value: str | bool | int | float) -> str:
    return json.dumps(value) if isinstance(value, str | bool) else repr(value)
