"""Fixtures shared by all tests."""

import numpy as np
import pytest
import torch


@pytest.fixture
def generator() -> torch.Generator:
    """Random numbers for torch, the same in every run."""
    return torch.Generator().manual_seed(20260101)


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers for numpy, the same in every run."""
    return np.random.default_rng(20260101)
