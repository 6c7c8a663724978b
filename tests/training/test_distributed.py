"""Two processes train as one does."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helmflow.objectives import reverse_kl
from helmflow.streams import stream
from helmflow.training.checkpoint import load
from helmflow.training.plan import TrainingPlan
from helmflow.training.stochastic import train
from trainable import stretched_normal, target

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from trainable import stretched_normal, target
from helmflow.objectives import reverse_kl
from helmflow.streams import stream
from helmflow.training.checkpoint import CheckpointFile, save
from helmflow.training.distributed import rank_and_ranks, torchrun_group
from helmflow.training.plan import TrainingPlan
from helmflow.training.stochastic import train

folder = Path(sys.argv[1])

def finish(name, rank, fails):
    flow = stretched_normal()
    if rank:  # what the other ranks start from does not matter
        flow.bijector.shift.data += 1.0
    def loss(n, generator):
        if rank and n > 6 and fails:
            raise MemoryError  # on one rank only
        return reverse_kl(flow, target, n, generator)
    plan = TrainingPlan(steps=2, batch=16, learning_rate=0.05)
    store = CheckpointFile(folder / f"{{name}}.st")
    outcome = train(flow, loss, plan, stream(5, "t"), store=store)
    tensors = dict(flow.state_dict()) | {{"gradient": flow.bijector.shift.grad}}
    save(folder / f"{{name}}{{rank}}.st", tensors, {{"micro": str(outcome.micro_batch)}})

with torchrun_group() as rank:
    assert rank_and_ranks()[1] == 2
    finish("whole", rank, fails=False)
    finish("halved", rank, fails=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    script = folder / "script.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parents[1])))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*torchrun, "--nproc_per_node=2", str(script), str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def one_rank(micro_batch):
    flow = stretched_normal()
    plan = TrainingPlan(steps=2, batch=16, learning_rate=0.05, micro_batch=micro_batch)
    train(flow, lambda n, g: reverse_kl(flow, target, n, g), plan, stream(5, "t"))
    return dict(flow.state_dict()) | {"gradient": flow.bijector.shift.grad}


@pytest.mark.parametrize(("name", "micro_batch"), [("whole", 8), ("halved", 4)])
def test_two_ranks_have_the_gradient_of_one_with_the_doubled_batch(folder, name, micro_batch):
    """Also when memory runs out on one of the two: then both halve their pieces."""
    (first, header), (second, _) = [load(folder / f"{name}{rank}.st", {}) for rank in (0, 1)]
    expected = one_rank(micro_batch)
    assert header["micro"] == str(micro_batch)
    for key, tensor in expected.items():
        assert torch.equal(first[key], second[key])
        assert torch.allclose(first[key], tensor, rtol=0, atol=1e-13)
    assert expected["gradient"].abs().max() > 0.05


def test_one_checkpoint_is_written_for_all(folder):
    assert load(folder / "whole.st", {})[0]["module/bijector.shift"].shape == (3,)
