"""Every cached kernel must change when a file that it compiles in changes.

Numba decides by the kernel's own file whether its cached machine code is current. So each such
file carries a digest of the others; after an edit this test names the digest to write there.
"""

import hashlib
import importlib
from pathlib import Path

import pytest

from helmflow import kernels

FOLDER = Path(kernels.__file__).parent
BLOCKS = ("simd.py", "vectors.py", "blocks.py")


@pytest.mark.parametrize(
    ("kernel", "inlined"),
    [
        ("lennard_jones", (*BLOCKS, "covariance.py")),
        ("stillinger_weber", BLOCKS),
        ("stillinger_weber_trace", (*BLOCKS, "covariance.py", "stillinger_weber.py")),
        ("radial", ("simd.py", "vectors.py")),
        ("triplets", BLOCKS),
        ("response", (*BLOCKS, "radial.py")),
        ("solvation", BLOCKS),
        (
            "solvation_fields",
            (*BLOCKS, "periodic_vectors.py", "solvation.py", "solvation_basis.py"),
        ),
    ],
)
def test_kernel_file_carries_the_digest_of_what_it_inlines(kernel, inlined):
    sources = b"".join((FOLDER / name).read_bytes() for name in inlined)
    module = importlib.import_module(f"helmflow.kernels.{kernel}")
    assert module.SIMD_DIGEST == hashlib.sha256(sources).hexdigest()[:12]


def test_every_cached_kernel_is_checked_above():
    cached = {p.stem for p in FOLDER.glob("*.py") if "SIMD_DIGEST" in p.read_text()}
    assert cached == {
        "lennard_jones",
        "stillinger_weber",
        "stillinger_weber_trace",
        "radial",
        "solvation",
        "solvation_fields",
        "triplets",
        "response",
    }


def test_only_files_with_a_digest_ask_for_the_cache():
    for path in FOLDER.glob("*.py"):
        source = path.read_text()
        if "**ENTRY)" in source or "@numba.njit(cache=True" in source:
            assert "SIMD_DIGEST" in source, path.name
