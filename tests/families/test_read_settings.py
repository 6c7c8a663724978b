"""Settings that a run does not read are refused in one line that names the key."""

import pytest

import helmflow as hf
from helmflow.errors import InputError
from helmflow.families import family_of, run
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
from helmflow.tables import parse_table

U1, SCHWINGER, SU2, PHI4 = "u1_8_beta2", "schwinger_8", "su2_4_beta2.2", "phi4_4"


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
        (PHI4, "training.steps", 10),
        (PHI4, "network.width", 3),
        (PHI4, "flow.sweeps", 9),
        (PHI4, "flow.kind", "coupling"),
        (PHI4, "flow.start", "lattice"),
        (PHI4, "flow.coupling", 2.0),
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


@pytest.mark.parametrize(
    ("method", "tables", "refused"),
    [
        ("fep", {"sampling": {"nodes": 7}}, "sampling.nodes"),
        ("fep", {"sampling": {"burn_in": 7}}, "sampling.burn_in"),
        ("bar", {"sampling": {"nodes": 7}}, "sampling.nodes"),
        ("frenkel_ladd", {"base": {"kind": "harmonic"}}, "base.kind"),
        ("auto", {"base": {"kind": "harmonic", "iterations": 3}}, "base.iterations"),
        ("flow", {"training": {"steps": 3}}, "training.steps"),
        ("flow", {"flow": {"start": "lattice"}}, "flow.start"),
        ("flow", {"flow": {"kind": "local", "steps": 3}}, "flow.steps"),
        ("flow", {"flow": {"kind": "local"}, "network": {"bins": 3}}, "network.bins"),
        ("flow", {"flow": {"kind": "coupling"}, "network": {"reach": 2.0}}, "network.reach"),
        ("flow", {"flow": {"kind": "local"}, "network": {"reach": 2.0}}, None),
        ("flow", {"flow": {"kind": "local", "start": "transport", "steps": 3}}, None),
        ("auto", {"base": {"kind": "self_consistent", "iterations": 3}}, None),
        ("auto", {"sampling": {"nodes": 7, "burn_in": 2, "steps": 3}}, None),
    ],
)
def test_what_a_crystal_reads_depends_on_the_method(method, tables, refused):
    family = family_of(load_system("ice/mw_cubic_8"))
    settings = parse_table(Settings, {"method": method, **tables})
    if refused is None:
        assert family.accept(settings).method == method
        return
    with pytest.raises(InputError, match=rf"^{refused}: expected none: a crystal by method"):
        family.accept(settings)


@pytest.mark.parametrize("name", ["ice/mw_cubic_8", "lattice/phi4_4", f"lattice/{U1}"])
@pytest.mark.parametrize("method", ["auto", "flow"])
def test_what_a_run_writes_can_be_read_back(name, method, tmp_path):
    """A resumed run finds every key in its settings.toml, at the value of the default."""
    family, path = family_of(load_system(name)), tmp_path / "settings.toml"
    accepted = family.accept(Settings(method=method))
    path.write_text(accepted.to_toml())
    again = load_settings(path, {})
    assert "ema_decay" in again.training.model_fields_set
    assert family.accept(again) == accepted


def test_a_name_is_no_system_yet():
    with pytest.raises(InputError, match=r"system: expected a System, from load_system"):
        hf.free_energy("lennard_jones/fcc_32")
