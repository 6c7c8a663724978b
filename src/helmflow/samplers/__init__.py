"""Markov chains that leave a target density unchanged."""

from helmflow.samplers.independence import IndependenceChain, independence_metropolis

__all__ = ["IndependenceChain", "independence_metropolis"]
