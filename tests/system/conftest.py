"""A system file and its structure, written anew for every test."""

import pytest

from system_files import COPPER, PERFECT


@pytest.fixture
def write(tmp_path):
    """Write mine.toml (the perfect file with replacements) and mine.xyz; returns its path."""

    def write_files(*replacements, toml=PERFECT, structure=COPPER):
        for old, new in replacements:
            assert old in toml
            toml = toml.replace(old, new)
        (tmp_path / "mine.toml").write_text(toml)
        (tmp_path / "mine.xyz").write_text(structure)
        return tmp_path / "mine.toml"

    return write_files
