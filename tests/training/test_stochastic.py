"""The loop: it converges, resumes bit for bit, survives bad steps, and stops when it must."""

import math

import pytest
import torch

from helmflow.errors import InputError
from helmflow.objectives import reverse_kl
from helmflow.streams import stream
from helmflow.training.checkpoint import CheckpointFile, load
from helmflow.training.plan import Cosine, DivergenceError, Drops, TrainingPlan
from helmflow.training.stochastic import measure, train
from trainable import LOG_Z, stretched_normal, target, target_samples

PLAN = TrainingPlan(steps=40, batch=16, learning_rate=0.05, ema_decay=0.9, checkpoint_every=10)


def loss_of(flow):
    return lambda n, generator: reverse_kl(flow, target, n, generator)


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_training_reaches_the_free_energy():
    flow = stretched_normal()
    plan = TrainingPlan(steps=300, batch=32, learning_rate=0.03, schedule=Cosine(10, 0.0))
    outcome = train(flow, loss_of(flow), plan, stream(0, "training"))
    assert outcome.steps == 300
    assert outcome.skipped == 0
    assert abs(outcome.final_loss + LOG_Z) < 5e-3


def test_reports_and_validation():
    flow, seen = stretched_normal(), []
    samples = target_samples(2000, stream(0, "samples"))
    plan = TrainingPlan(steps=200, batch=32, learning_rate=0.05, validate_every=200)

    def validate():
        return measure(flow, target, 2000, stream(0, "validation"), samples)

    before = validate()
    train(flow, loss_of(flow), plan, stream(0, "x"), report=seen.append, validate=validate)
    assert [report.step for report in seen] == list(range(1, 201))
    assert all(report.gradient_norm > 0 for report in seen)
    assert not seen[5].validation
    after = seen[-1].validation
    assert after["ess"] > 0.98 > 0.8 > before["ess"]
    assert after["lower_bound"] - 0.1 < -LOG_Z < after["upper_bound"] + 0.1
    assert abs(after["free_energy"] + LOG_Z) < 0.02


def test_an_interrupted_run_ends_with_the_same_bits(tmp_path):
    def run(stop_after=None, folder=tmp_path / "whole"):
        flow, calls = stretched_normal(), 0
        base_loss = loss_of(flow)

        def loss(n, generator):
            nonlocal calls
            calls += 1
            if calls == stop_after:
                raise KeyboardInterrupt
            return base_loss(n, generator)

        path = folder / "training.safetensors"
        outcome = train(flow, loss, PLAN, stream(5, "t"), store=CheckpointFile(path))
        return flow, outcome, path

    whole, _, whole_file = run()
    folder = tmp_path / "parts"
    for stop in (14, 17):
        with pytest.raises(KeyboardInterrupt):
            run(stop, folder)
    parts, outcome, file = run(None, folder)
    assert outcome.resumed_at == 20
    assert torch.equal(weights(whole), weights(parts))
    a, b = load(whole_file, {}), load(file, {})
    assert a[1] == b[1]
    assert all(torch.equal(a[0][name], b[0][name]) for name in a[0])
    again, outcome, _ = run(None, folder)
    assert outcome.resumed_at == PLAN.steps
    assert torch.equal(weights(again), weights(whole))


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    path = tmp_path / "training.safetensors"
    flow = stretched_normal()
    store, other = (CheckpointFile(path, {"system": name}) for name in "ab")
    train(flow, loss_of(flow), PLAN, stream(0, "x"), store=store)
    with pytest.raises(InputError, match="system 'b'"):
        train(flow, loss_of(flow), PLAN, stream(0, "x"), store=other)
    with pytest.raises(InputError, match="checkpoint: expected plan"):
        train(flow, loss_of(flow), TrainingPlan(steps=3, batch=128), stream(0, "x"), store=store)
    line = torch.nn.Linear(2, 2)
    with pytest.raises(InputError, match="weights of this flow"):
        train(line, loss_of(flow), PLAN, stream(0, "x"), store=store)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="whole safetensors"):
        train(flow, loss_of(flow), PLAN, stream(0, "x"), store=store)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_steps_that_are_not_finite_are_skipped(where):
    flow, calls = stretched_normal(), 0
    good = loss_of(flow)

    def loss(n, generator):
        nonlocal calls
        calls += 1
        value = good(n, generator)
        if calls % 5 == 0:
            bad = torch.sqrt((flow.bijector.shift * 0).sum())  # 0, of infinite slope
            value = value + (math.nan if where == "loss" else bad)
        return value

    plan = TrainingPlan(steps=300, batch=32, learning_rate=0.03)
    outcome = train(flow, loss, plan, stream(0, "training"))
    assert outcome.skipped == 60
    assert abs(outcome.final_loss + LOG_Z) < 1e-2


def test_divergence_stops_and_keeps_the_last_good_state(tmp_path):
    path = tmp_path / "training.safetensors"
    flow = stretched_normal()
    plan = TrainingPlan(steps=1000, batch=16, learning_rate=0.01, checkpoint_every=5, patience=40)
    calls = 0

    def loss(n, generator):
        nonlocal calls
        calls += 1
        value = reverse_kl(flow, target, n, generator)
        return value if calls <= 60 else -value

    with pytest.raises(DivergenceError, match="lower learning_rate") as caught:
        train(flow, loss, plan, stream(0, "x"), store=CheckpointFile(path))
    assert caught.value.step < 900
    assert str(path) in str(caught.value)
    after = measure(flow, target, 4000, stream(0, "validation"))
    assert after["upper_bound"] < -LOG_Z + 1.0


def test_only_non_finite_steps_are_divergence_too():
    flow = stretched_normal()
    with pytest.raises(DivergenceError, match="20 steps in a row"):
        train(
            flow,
            lambda n, g: weights(flow).sum() * 0 + flow.bijector.shift.sum() * math.nan,
            PLAN,
            stream(0, "x"),
        )


def test_clipping_bounds_the_step():
    def first_moments(clip, tmp_path_factory=None):
        flow = stretched_normal()
        seen = []
        plan = TrainingPlan(steps=1, batch=8, clip_norm=clip)
        train(flow, loss_of(flow), plan, stream(0, "x"), report=seen.append)
        return torch.cat([p.grad.flatten() for p in flow.parameters()]), seen[0].gradient_norm

    free, norm = first_moments(None)
    clipped, same = first_moments(0.01)
    assert norm == same == pytest.approx(free.norm().item())
    assert clipped.norm().item() == pytest.approx(0.01)


def test_memory_that_runs_out_halves_the_pieces():
    flow, sizes = stretched_normal(), []

    def loss(n, generator):
        sizes.append(n)
        if n > 5:
            raise torch.OutOfMemoryError("out of memory")
        return reverse_kl(flow, target, n, generator)

    plan = TrainingPlan(steps=2, batch=16)
    outcome = train(flow, loss, plan, stream(0, "x"))
    assert outcome.micro_batch == 4
    assert sizes == [16, 8, 4, 4, 4, 4, 4, 4, 4, 4]

    reference = stretched_normal()
    plan = TrainingPlan(steps=2, batch=16, micro_batch=4)
    train(reference, loss_of(reference), plan, stream(0, "x"))
    assert torch.equal(weights(flow), weights(reference))

    def never(n, generator):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(InputError, match="not even one"):
        train(flow, never, plan, stream(0, "x"))

    def broken(n, generator):
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape"):
        train(flow, broken, plan, stream(0, "x"))


def test_uneven_pieces_weigh_by_their_size():
    parameter = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    module = torch.nn.Module()
    module.p = parameter
    seen = []
    plan = TrainingPlan(steps=1, batch=10, micro_batch=4)
    train(module, lambda n, g: parameter.sum() + n, plan, stream(0, "x"), report=seen.append)
    assert seen[0].loss == pytest.approx((4 * 4 + 4 * 4 + 2 * 2) / 10)
    assert seen[0].gradient_norm == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"steps": -1}, "steps"),
        ({"batch": 0}, "batch"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"micro_batch": 0}, "micro_batch"),
    ],
)
def test_impossible_plans_are_refused(changes, field):
    with pytest.raises(InputError, match=field):
        TrainingPlan(**{"steps": 1, "batch": 1, **changes})


def test_a_module_without_parameters_is_refused():
    with pytest.raises(InputError, match="parameters to train"):
        train(torch.nn.Module(), lambda n, g: None, PLAN, stream(0, "x"))


def test_schedules():
    cosine = Cosine(warm_up=4, floor=0.1)
    factors = [cosine.factor(step, 104) for step in range(104)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0
    assert factors[54] == pytest.approx(0.55)
    assert 0.1 <= factors[-1] < 0.101
    drops = Drops(at=(10, 20), ratio=0.5, warm_up=2)
    assert [drops.factor(step, 30) for step in (0, 1, 9, 10, 20)] == [0.5, 1, 1, 0.5, 0.25]
    for bad in (lambda: Cosine(-1), lambda: Cosine(0, 2.0), lambda: Drops(ratio=0.0)):
        with pytest.raises(InputError):
            bad()
