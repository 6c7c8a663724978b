"""Independent random streams of one run, all derived from its seed."""

import zlib

import numpy as np
from torch import Generator


def stream(seed: int, name: str) -> Generator:
    """The generator of one named purpose; different names or seeds give independent streams."""
    words = np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(2, np.uint32)
    return Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))
