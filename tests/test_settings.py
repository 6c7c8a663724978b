"""Settings: closed, merged from file and flags, written in full."""

import tomllib

import pytest

from helmflow.errors import InputError
from helmflow.families import family_of
from helmflow.settings import Settings, load_settings
from helmflow.system import load_system
from helmflow.tables import parse_table


def test_written_settings_read_back_equal(tmp_path):
    settings = load_settings(None, {"seed": 7, "method": "ti", "threads": None})
    settings = family_of(load_system("ice/mw_cubic_8")).accept(settings)
    path = tmp_path / "settings.toml"
    path.write_text(settings.to_toml())
    assert load_settings(path, {}) == settings
    assert settings.target_error == 1e-4


@pytest.mark.parametrize(("name", "target"), [("ice/mw_cubic_8", 1e-4), ("lattice/phi4_4", 1e-2)])
def test_default_target_depends_on_the_family(name, target):
    family = family_of(load_system(name))
    assert family.accept(Settings()).target_error == target
    assert family.accept(Settings(target_error=0.5)).target_error == 0.5


def test_every_setting_is_written_or_named():
    text = Settings().to_toml()
    table = Settings.model_fields | Settings().base.__class__.model_fields
    for name in [*table, *type(Settings().sampling).model_fields]:
        assert name in text
    assert tomllib.loads(text)["sampling"] == {"max_rounds": 50}


def test_flags_win_over_the_file(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text('seed = 1\nmethod = "bar"\n[sampling]\nchains = 4\n')
    settings = load_settings(path, {"seed": 2, "method": None})
    assert (settings.seed, settings.method, settings.sampling.chains) == (2, "bar", 4)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"sampling": {"chians": 4}}, r"^sampling.chians: .*did you mean 'chains'"),
        ({"methd": "ti"}, r"^methd: .*did you mean 'method'"),
        ({"method": "flows"}, r"^method: .*'flow', got 'flows'"),
        ({"target_error": -1.0}, r"^target_error: .*not less than"),
        ({"target_error": float("nan")}, r"^target_error: .*finite"),
        ({"sampling": {"nodes": 1}}, r"^sampling.nodes: "),
        ({"seed": -1}, r"^seed: "),
        ({"threads": 0}, r"^threads: "),
        ({"base": 3}, r"^base: "),
    ],
)
def test_mistakes_are_one_line_naming_the_key(table, message):
    with pytest.raises(InputError, match=message) as caught:
        parse_table(Settings, table)
    assert "\n" not in str(caught.value)


def test_unreadable_files_name_the_path(tmp_path):
    with pytest.raises(InputError, match=r"no.toml"):
        load_settings(tmp_path / "no.toml", {})
    (tmp_path / "bad.toml").write_text("seed = = 1")
    with pytest.raises(InputError, match=r"bad.toml"):
        load_settings(tmp_path / "bad.toml", {})
