"""Compiled kernels: batches of configurations, one configuration per SIMD lane."""
