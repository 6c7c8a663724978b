"""Everything a training run needs to go on exactly where it stopped."""

import json
import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

import torch
from torch import Generator, Tensor, nn

from helmflow.errors import InputError
from helmflow.training.checkpoint import Store
from helmflow.training.distributed import rank_and_ranks
from helmflow.training.plan import TrainingPlan

BEGINNING = 20
"""Losses that later ones are compared with."""


@final
class Guard:
    """Counts steps that were skipped and knows when training has diverged.

    Diverged means that every one of the last ``patience`` losses is above all of the first
    ``BEGINNING`` ones, or that ``max_skipped`` steps in a row were not finite. Single spikes,
    which heavy-tailed works produce all the time, do neither.
    """

    def __init__(self, patience: int, max_skipped: int) -> None:
        self.max_skipped = max_skipped
        self.first: list[float] = []
        self.recent: deque[float] = deque(maxlen=patience)
        self.skipped = 0
        self.in_a_row = 0

    def record(self, loss: float, skipped: bool) -> None:
        """Take note of one step."""
        self.skipped += skipped
        self.in_a_row = self.in_a_row + 1 if skipped else 0
        if not skipped and len(self.first) < BEGINNING:
            self.first.append(loss)
        self.recent.append(math.inf if skipped else loss)

    @property
    def complaint(self) -> str | None:
        """What has gone wrong, or None."""
        if self.in_a_row >= self.max_skipped:
            return f"{self.in_a_row} steps in a row had a loss or gradient that is not finite"
        full = len(self.recent) == self.recent.maxlen
        if full and len(self.first) == BEGINNING and min(self.recent) > max(self.first):
            return f"the last {len(self.recent)} losses are all above the first {BEGINNING}"
        return None

    @property
    def healthy(self) -> bool:
        """Whether the present state is worth keeping: finite and no worse than the beginning."""
        lately = list(self.recent)[-BEGINNING:]
        return not lately or (self.in_a_row == 0 and min(lately) <= max(self.first))

    @property
    def recent_mean(self) -> float:
        """Mean of the last (up to 20) finite losses, NaN if there are none."""
        finite = [loss for loss in list(self.recent)[-BEGINNING:] if math.isfinite(loss)]
        return sum(finite) / len(finite) if finite else math.nan

    def tensors(self) -> dict[str, Tensor]:
        """Everything, for a checkpoint."""
        return {
            "first": torch.tensor(self.first, dtype=torch.float64),
            "recent": torch.tensor(list(self.recent), dtype=torch.float64),
            "counts": torch.tensor([self.skipped, self.in_a_row]),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``tensors`` returned."""
        self.first = tensors["first"].tolist()
        self.recent.clear()
        self.recent.extend(tensors["recent"].tolist())
        self.skipped, self.in_a_row = tensors["counts"].tolist()


@final
class WeightAverage:
    """Exponential moving average of a module's parameters.

        a <- d a + (1 - d) w,   d = min(decay, (1 + t)/(10 + t)) at update t = 0, 1, ...

    The smaller d at the beginning forgets the initial weights.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.weights = {name: p.detach().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take the module's present weights into the average."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, p in module.named_parameters():
            self.weights[name].lerp_(p, 1.0 - decay)

    @torch.no_grad()
    def load_into(self, module: nn.Module) -> None:
        """Give the module the averaged weights."""
        for name, p in module.named_parameters():
            p.copy_(self.weights[name])

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """The module with averaged weights inside the block, with its own ones afterwards."""
        trained = {name: p.detach().clone() for name, p in module.named_parameters()}
        self.load_into(module)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, p in module.named_parameters():
                    p.copy_(trained[name])

    def tensors(self) -> dict[str, Tensor]:
        """Everything, for a checkpoint."""
        return {**self.weights, "#updates": torch.tensor(self.updates)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``tensors`` returned."""
        self.updates = int(tensors["#updates"])
        for name, weight in self.weights.items():
            weight.copy_(tensors[name])


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
