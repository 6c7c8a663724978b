"""Settings that a run does not read are refused in one line that names the key."""

import pytest
from helmflow.families.read_settings import refuse_unread

from helmflow.errors import InputError
from helmflow.families import run
from helmflow.settings import (
    BaseSettings,
    FlowSettings,
    NetworkSettings,
    SamplingSettings,
    Settings,
    TrainingSettings,
    load_settings,
)
from helmflow.system import load_system

U1, SCHWINGER, SU2 = "u1_8_beta2", "schwinger_8", "su2_4_beta2.2"


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        (U1, "flow.start", "lattice"),
        (U1, "flow.start", "transport"),
        (U1, "flow.kind", "local"),
        (U1, "flow.sweeps", 9),
        (U1, "training.steps", 10),
        (U1, "training.ema_decay", 0.5),
        (U1, "network.layers", 3),
        (U1, "sampling.nodes", 9),
        (U1, "sampling.steps", 9),
        (U1, "base.kind", "harmonic"),
        (SCHWINGER, "flow.start", "loops"),
        (SCHWINGER, "flow.kind", "continuous"),
        (SCHWINGER, "training.steps", 0),
        (SCHWINGER, "sampling.chains", 64),
        (SU2, "training.objective", "log_variance"),
        (SU2, "training.ema_decay", 0.5),
        (SU2, "training.warm_up", 7),
        (SU2, "training.micro_batch", 4),
        (SU2, "network.bins", 8),
        (SU2, "network.half_gradients", True),
        (SU2, "flow.start", "loops"),
        (SU2, "flow.kind", "local"),
        (SU2, "flow.steps", 4),
        ("su2_link_1", "flow.coupling", 2.0),
    ],
)
def test_refused(name, key, value):
    table, own = key.split(".")
    tables = {
        "base": BaseSettings,
        "flow": FlowSettings,
        "network": NetworkSettings,
        "sampling": SamplingSettings,
        "training": TrainingSettings,
    }
    chosen = Settings(**{table: tables[table](**{own: value})})
    with pytest.raises(InputError, match=rf"^{key}: expected ") as refused:
        run(load_system(f"lattice/{name}"), chosen, None, lambda _: None)
    assert "\n" not in str(refused.value)


def test_what_a_run_writes_can_be_read_back(tmp_path):
    """A resumed run finds every key in its settings.toml, at the value of the default."""
    path = tmp_path / "settings.toml"
    path.write_text(Settings(flow=FlowSettings(steps=4)).resolved("gauge_field").to_toml())
    chosen = load_settings(path, {})
    assert "ema_decay" in chosen.training.model_fields_set
    refuse_unread(chosen, {"flow.steps", "flow.kind"}, "this")
    with pytest.raises(InputError, match=r"flow\.steps: expected none: this does not read it"):
        refuse_unread(chosen, {"flow.kind"}, "this")
