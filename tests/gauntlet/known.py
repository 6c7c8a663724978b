"""Values that no formula gives, from long runs; how each was obtained is in the file."""

import tomllib
from pathlib import Path

VALUES = tomllib.loads((Path(__file__).parents[1] / "data" / "gauntlet_values.toml").read_text())
KNOWN = {name: entry["value"] for name, entry in VALUES.items()}
STDERR = {name: entry["stderr"] for name, entry in VALUES.items()}
