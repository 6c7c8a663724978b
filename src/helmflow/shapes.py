"""Names for the tensor shapes that appear in signatures: one leading batch axis, always."""

from torch import Tensor

Configs = Tensor
"""(batch, *event): configurations of any system."""

Particles = Tensor
"""(batch, n, 3): positions or displacements of particles."""

Values = Tensor
"""(batch,): one number per configuration."""
