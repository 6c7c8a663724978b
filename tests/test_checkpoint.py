"""Checkpoints: bit for bit, atomic, and never loaded when they are not what they should be."""

import os
import secrets

import pytest
import torch
from safetensors.torch import save_file

from helmflow.errors import InputError
from helmflow.training.atomic import remove_temporaries, write_atomically
from helmflow.training.checkpoint import load, save

HEADER = {"digest": "abc", "round": "3"}


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    return {
        "x": x,
        "transposed": x.T,
        "part": x[1:3],
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(float("nan"), dtype=torch.float64),
        "generator": generator.get_state(),
        "flags": x > 0,
        "single": x.float(),
        "parameter": torch.nn.Parameter(x),
    }


def test_every_tensor_comes_back_bit_for_bit(tmp_path, tensors):
    path = tmp_path / "checkpoint" / "state.safetensors"
    save(path, tensors, HEADER)
    loaded, header = load(path, {"digest": "abc"})
    assert header == HEADER
    assert set(loaded) == set(tensors)
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(
            loaded[name].nan_to_num(7) if tensor.is_floating_point() else loaded[name],
            tensor.detach().nan_to_num(7) if tensor.is_floating_point() else tensor,
        )


def test_a_restored_generator_goes_on_where_it_was(tmp_path):
    generator = torch.Generator().manual_seed(1)
    torch.randn(17, generator=generator)
    save(tmp_path / "g", {"state": generator.get_state()}, {})
    expected = torch.randn(9, generator=generator)
    restored = torch.Generator()
    restored.set_state(load(tmp_path / "g", {})[0]["state"])
    assert torch.equal(torch.randn(9, generator=restored), expected)


def test_a_file_cut_anywhere_is_refused(tmp_path, tensors):
    save(tmp_path / "whole", tensors, HEADER)
    data = (tmp_path / "whole").read_bytes()
    for size in [*range(0, len(data) - 1, 97), len(data) - 1]:
        (tmp_path / "cut").write_bytes(data[:size])
        with pytest.raises(InputError, match=r"^checkpoint: ") as caught:
            load(tmp_path / "cut", {})
        assert "\n" not in str(caught.value)


def test_foreign_and_mismatched_files_are_refused(tmp_path, tensors):
    save_file({"x": torch.zeros(3)}, tmp_path / "foreign")
    with pytest.raises(InputError, match="written by helmflow"):
        load(tmp_path / "foreign", {})
    save_file({"x": torch.zeros(3)}, tmp_path / "newer", metadata={"helmflow_checkpoint": "99"})
    with pytest.raises(InputError, match="helmflow_checkpoint '1', got '99'"):
        load(tmp_path / "newer", {})
    save(tmp_path / "other", tensors, HEADER)
    with pytest.raises(InputError, match="digest 'xyz', got 'abc'"):
        load(tmp_path / "other", {"digest": "xyz"})
    with pytest.raises(InputError, match="seed '1', got None"):
        load(tmp_path / "other", {"seed": "1"})
    with pytest.raises(InputError, match="none at"):
        load(tmp_path / "missing", {})
    with pytest.raises(InputError, match="reserved"):
        save(tmp_path / "x", tensors, {"helmflow_checkpoint": "1"})


def test_a_write_that_dies_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "state"
    write_atomically(path, b"old")

    def die(*_):
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", die)
        with pytest.raises(OSError, match="power cut"):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    (tmp_path / ".state.tmp").touch()  # as a killed process leaves it
    remove_temporaries(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_temporary_files_follow_no_link(tmp_path, monkeypatch):
    target, path = tmp_path / "target", tmp_path / "x.json"
    target.write_text("mine")
    monkeypatch.setattr(secrets, "token_hex", lambda n: "known")
    (tmp_path / ".known.tmp").symlink_to(target)
    with pytest.raises(FileExistsError):
        write_atomically(path, b"new")
    assert target.read_text() == "mine"


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(tmp_path / "x.json", b"new")
    assert not list(tmp_path.iterdir())
