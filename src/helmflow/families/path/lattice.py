"""ln Z of lattice fields."""

from torch import Tensor

from helmflow.families.path.family import PathFamily
from helmflow.families.path.lattice_problem import LatticeProblem
from helmflow.skeleton.budget import Budget
from helmflow.skeleton.quantity import Quantity, ln_z


class LatticeFamily(PathFamily):
    """ln Z of lattice fields."""

    noun = "a lattice field"
    methods = ("auto", "fep", "bar", "ti", "flow")
    target_error = 1e-2
    flow_kind = "continuous"
    flow_kinds = ("continuous", "coupling", "transport")

    def problem(self, budget: Budget) -> LatticeProblem:
        """Fields as vectors."""
        return LatticeProblem(self.system, budget)

    @property
    def quantity(self) -> Quantity:
        """ln Z in nats."""
        return ln_z(self.system)

    def configurations(self, x: Tensor) -> Tensor:
        """Fields (batch, *shape)."""
        return x.view(len(x), *self.system.shape)
