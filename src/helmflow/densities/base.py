"""Normalised densities that can be sampled exactly."""

from abc import ABC, abstractmethod

import torch
from torch import nn

from helmflow.errors import InputError
from helmflow.shapes import Configs, Values


class Density(nn.Module, ABC):
    """A normalised probability density with exact samples.

    To add one: `log_prob` integrates to one over the configurations, and
    `sample_and_log_prob` draws independent samples with exactly that density.
    """

    def require(self, x: Configs) -> None:
        """Raise InputError unless x is where the density lives; by default that is anywhere."""

    @abstractmethod
    def log_prob(self, x: Configs) -> Values:
        """Log density (batch,) of configurations (batch, *event)."""

    @abstractmethod
    def sample_and_log_prob(self, n: int, generator: torch.Generator) -> tuple[Configs, Values]:
        """Draw n independent samples (n, *event) and their log density (n,)."""


def require_count(n: int) -> None:
    """Raise InputError unless n is a number of samples, at least one."""
    if n < 1:
        raise InputError("n", "at least 1 sample", n)
