"""Everything a training run needs to go on exactly where it stopped."""

import json
from typing import final

import torch
from torch import Generator, Tensor, nn

from helmflow.errors import InputError
from helmflow.training.averaging import WeightAverage
from helmflow.training.checkpoint import Store
from helmflow.training.distributed import rank_and_ranks
from helmflow.training.guard import Guard
from helmflow.training.plan import TrainingPlan


@final
class TrainingState:
    """Weights, optimiser, average, guard, generator and counters of one run."""

    def __init__(
        self,
        module: nn.Module,
        plan: TrainingPlan,
        generator: Generator,
    ) -> None:
        self.module, self.generator = module, generator
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        if not self.parameters:
            raise InputError("module", "parameters to train", "none")
        self.optimizer = torch.optim.Adam(self.parameters, lr=plan.learning_rate, fused=True)
        self.average = None if plan.ema_decay is None else WeightAverage(module, plan.ema_decay)
        self.guard = Guard(plan.patience, plan.max_skipped)
        share = -(-plan.batch // rank_and_ranks()[1])
        self.micro_batch = min(plan.micro_batch or share, plan.batch)
        self.step = 0
        self._plan = repr(plan)

    def update(self, learning_rate: float, clip_norm: float | None, norm: float) -> None:
        """One step of Adam with the gradient in place, shortened to ``clip_norm``."""
        if clip_norm is not None and norm > clip_norm:
            for gradient in (p.grad for p in self.parameters if p.grad is not None):
                gradient.mul_(clip_norm / norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.module)

    def save(self, store: Store) -> None:
        """Write the whole state; on rank 0 only."""
        if rank_and_ranks()[0]:
            return
        parts = {
            "module": self.module.state_dict(),
            "guard": self.guard.tensors(),
            "generator": {"state": self.generator.get_state()},
            "average": self.average.tensors() if self.average is not None else {},
        }
        for k, entry in self.optimizer.state_dict()["state"].items():
            parts[f"adam.{k}"] = entry
        tensors = {
            f"{part}/{name}": tensor
            for part, entries in parts.items()
            for name, tensor in entries.items()
        }
        counters = json.dumps({"step": self.step, "micro_batch": self.micro_batch})
        store.save(tensors, {"plan": self._plan, "counters": counters})

    def restore(self, store: Store) -> bool:
        """Continue from what ``save`` has kept; False if that is nothing.

        Raises ``InputError`` for the state of another plan or module.
        """
        saved = store.load()
        if saved is None:
            return False
        tensors, facts = saved
        if facts.get("plan") != self._plan:
            raise InputError("checkpoint", f"plan {self._plan}", f"{facts.get('plan')} in {store}")
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            part, _, entry = name.partition("/")
            parts.setdefault(part, {})[entry] = tensor
        self._restore_module(store, parts["module"])
        adam = {
            int(part.removeprefix("adam.")): entries
            for part, entries in parts.items()
            if part.startswith("adam.")
        }
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": adam, "param_groups": groups})
        if self.average is not None:
            self.average.restore(parts["average"])
        self.guard.restore(parts["guard"])
        self.generator.set_state(parts["generator"]["state"])
        counters = json.loads(facts["counters"])
        self.step, self.micro_batch = counters["step"], counters["micro_batch"]
        return True

    def _restore_module(self, store: Store, tensors: dict[str, Tensor]) -> None:
        expected = {name: t.shape for name, t in self.module.state_dict().items()}
        stored = {name: t.shape for name, t in tensors.items()}
        if expected != stored:
            differing = sorted(
                name for name in expected | stored if expected.get(name) != stored.get(name)
            )
            raise InputError(
                "checkpoint", "weights of this flow", f"{store}, which differs in {differing[0]}"
            )
        self.module.load_state_dict(tensors)
