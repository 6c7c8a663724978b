"""Files that went wrong in 500 seeded ways: refused in one line, or they mean what they say."""

import json
import math
import shutil
import tomllib

import numpy as np
import pytest
import torch

from helmflow.errors import InputError
from helmflow.results import RunDirectory
from helmflow.settings import Settings, load_settings
from helmflow.skeleton.kept import Kept, read_kept, write_kept
from helmflow.system import load_system
from helmflow.system.shipped import shipped_folder
from small_runs import finished_run

SYSTEMS = ("ice/mw_cubic_8", "lattice/phi4_4", "lattice/u1_8_beta2", "sphere/four_modes")
WORTHLESS = [math.nan, math.inf, -math.inf, "seven", [], {}, [[1.0]], None, "\x00", "é" * 999]
"""What no number may be."""


def refused(read, *args):
    """Whether a file was refused, in one line; any other exception is a defect."""
    try:
        read(*args)
    except InputError as error:
        message = str(error)
    else:
        return False
    assert "\n" not in message
    assert len(message) < 2000
    return True


def places(table, at=()):
    """Every value in nested tables."""
    items = table.items() if isinstance(table, dict) else enumerate(table)
    for key, value in items:
        yield (*at, key)
        if isinstance(value, dict | list):
            yield from places(value, (*at, key))


def changed(table, place, value):
    """The table with another value there; without it for ``...``."""
    copy = json.loads(json.dumps(table))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return copy


def toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float):
        return str(value)
    return '""' if value is None else json.dumps(value)


def written(path, table):
    path.write_text("".join(f"{json.dumps(k)} = {toml(v)}\n" for k, v in table.items()))
    return path


@pytest.mark.parametrize("name", SYSTEMS)
def test_system_files(name, tmp_path, rng):
    """45 each: a number replaced by what is none, an unknown key, and anything left out."""
    source = shipped_folder() / f"{name}.toml"
    table = tomllib.loads(source.read_text())
    for file in source.parent.glob(f"{source.stem}.extxyz"):
        shutil.copy(file, tmp_path)
    assert not refused(load_system, written(tmp_path / "x.toml", table))
    numbers = [
        place
        for place in places(table)
        if isinstance(value := at(table, place), int | float) and not isinstance(value, bool)
    ]
    for _ in range(25):
        place, value = numbers[rng.integers(len(numbers))], WORTHLESS[rng.integers(len(WORTHLESS))]
        path = written(tmp_path / "x.toml", changed(table, place, value))
        assert refused(load_system, path), (place, value)
    for _ in range(10):
        tables = [(), *(p for p in places(table) if isinstance(at(table, p), dict))]
        place = (*tables[rng.integers(len(tables))], f"key{rng.integers(99)}")
        path = written(tmp_path / "x.toml", changed(table, place, 1.0))
        assert refused(load_system, path), place
    everything = list(places(table))
    for _ in range(10):
        place = everything[rng.integers(len(everything))]
        refused(load_system, written(tmp_path / "x.toml", changed(table, place, ...)))


def at(table, place):
    for key in place:
        table = table[key]
    return table


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 5000 + "]" * 5000,
        "seed = " + "9" * 5000,
        "seed = 0x" + "f" * 5000,
        'name = "' + "a" * 5000 + '"',
        "[a]\n[a]",
        "\x00",
    ],
    ids=lambda text: text[:9],
)
def test_toml_beyond_reason(text, tmp_path):
    path = tmp_path / "x.toml"
    path.write_text(text)
    assert refused(load_system, path)
    assert refused(load_settings, path, {})


@pytest.mark.parametrize(
    ("old", "new"),
    [("shape = [4, 4]", "shape = [100000, 100000]"), ("lattice/phi4_4", "a" * 5000)],
    ids=["shape", "name"],
)
def test_a_lattice_beyond_reason(old, new, tmp_path):
    text = (shipped_folder() / "lattice/phi4_4.toml").read_text()
    path = tmp_path / "x.toml"
    path.write_text(text.replace(old, new))
    assert refused(load_system, path)


@pytest.mark.parametrize("line", ["[1]", "7", '"x"', "null", "{", "[" * 5000])
def test_metrics_of_other_kinds(line, tmp_path):
    path = finished_run(tmp_path / "run")
    (path / "metrics.jsonl").write_text(line + "\n")
    assert refused(RunDirectory.open(path).read_metrics)


def test_settings(tmp_path, rng):
    """80: every number of the settings, in turn, by what is none."""
    table = tomllib.loads(Settings().to_toml())
    numbers = [p for p in places(table) if type(at(table, p)) in (int, float)]
    for k in range(80):
        place, value = numbers[k % len(numbers)], WORTHLESS[rng.integers(len(WORTHLESS))]
        path = written(tmp_path / "s.toml", changed(table, place, value))
        assert refused(load_settings, path, {}), (place, value)


def test_structures(tmp_path, rng):
    """80 damaged extxyz files: cut short, bytes exchanged, fields of other types."""
    folder = shipped_folder() / "ice"
    shutil.copy(folder / "mw_cubic_8.toml", tmp_path)
    whole = (folder / "mw_cubic_8.extxyz").read_bytes()
    path = tmp_path / "mw_cubic_8.extxyz"
    for _ in range(30):
        path.write_bytes(whole[: rng.integers(len(whole) // 2)])
        assert refused(load_system, tmp_path / "mw_cubic_8.toml")
    for text in (b"nan", b"inf", b"x", b"-", b"1e999"):
        for column in (1, 2, 3, 1, 2, 3, 1, 2):  # positions
            lines = whole.splitlines()
            row = int(rng.integers(2, len(lines)))
            words = lines[row].split()
            lines[row] = b" ".join([*words[:column], text, *words[column + 1 :]])
            path.write_bytes(b"\n".join(lines) + b"\n")
            assert refused(load_system, tmp_path / "mw_cubic_8.toml"), lines[row]
    for _ in range(10):
        path.write_bytes(rng.bytes(int(rng.integers(2000))))
        assert refused(load_system, tmp_path / "mw_cubic_8.toml")


def test_kept_tensors(tmp_path, rng):
    """60: every flipped byte and every cut is noticed."""
    path = tmp_path / "x.safetensors"
    tensors = {"a": torch.arange(40.0, dtype=torch.float64), "n": torch.tensor(3)}
    write_kept(path, Kept(tensors, {"steps": 7}), {})
    whole = path.read_bytes()
    for k in range(60):
        data, where = bytearray(whole), int(rng.integers(len(whole)))
        if k % 2:
            data = data[:where]
        else:
            data[where] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(data))
        assert refused(read_kept, path, {}), where


def test_files_of_a_run(tmp_path, rng):
    """110: each file of a finished run, cut, overwritten, or with values of other types."""
    path = finished_run(tmp_path / "run")
    readers = {
        "run.json": lambda: RunDirectory.open(path),
        "result.json": lambda: RunDirectory.open(path).read_result(),
        "work.npz": lambda: RunDirectory.open(path).read_work(),
        "metrics.jsonl": lambda: RunDirectory.open(path).read_metrics(),
        "settings.toml": lambda: load_settings(path / "settings.toml", {}),
    }
    for name, read in readers.items():
        whole = (path / name).read_bytes()
        assert not refused(read)
        for k in range(12):
            cut = whole[: rng.integers(len(whole))]
            (path / name).write_bytes(cut if k % 2 else rng.bytes(50))
            refused(read)
        (path / name).write_bytes(whole)
    table = json.loads((path / "result.json").read_text())
    everything = [p for p in places(table) if p[0] not in ("versions", "schema")]
    for _ in range(50):
        place = everything[rng.integers(len(everything))]
        value = {"<script>": [rng.random()]} if isinstance(at(table, place), str) else "<script>"
        (path / "result.json").write_text(json.dumps(changed(table, place, value)))
        assert refused(readers["result.json"]), place


def test_arrays_of_objects_are_never_read(tmp_path):
    """A pickle in place of ``work.npz``."""
    path = finished_run(tmp_path / "run")
    np.savez(path / "work.npz", work=np.array([print], dtype=object))
    assert refused(RunDirectory.open(path).read_work)
