import numpy as np
import pytest
import torch

import gaussian_pair as pair
from helmflow.bijectors.affine import DenseAffine
from helmflow.errors import InputError
from helmflow.families.two_states.shard_files import load_shards, save_shard
from helmflow.families.two_states.shards import merge_shards, work_shard
from helmflow.families.two_states.targeted import targeted_fep
from helmflow.results import Check
from helmflow.thermo import ThermodynamicState
from helmflow.training.map_fit import GaussianFit


def shards(n=3, samples=None, **options):
    samples = samples or pair.samples(120)
    return [work_shard(*pair.states(), *samples, part=(i, n), **options) for i in range(1, n + 1)]


@pytest.mark.parametrize("fit", [None, GaussianFit()], ids=["plain", "fitted"])
def test_merged_is_what_it_would_have_been_whole(fit, tmp_path):
    for shard in reversed(shards(map=fit)):
        save_shard(tmp_path, shard)
    merged = merge_shards(load_shards(tmp_path))
    whole = targeted_fep(*pair.states(), *pair.samples(120), map=fit)
    np.testing.assert_allclose(merged.works.forward, whole.works.forward, rtol=1e-12)
    np.testing.assert_allclose(merged.works.reverse, whole.works.reverse, rtol=1e-12)
    assert merged.result.value == pytest.approx(whole.result.value, rel=1e-12)
    assert merged.result.stderr == pytest.approx(whole.result.stderr, rel=1e-12)
    assert merged.result.method == whole.result.method
    assert merged.temperature == pytest.approx(300.0)
    assert merged.variance_reduction == pytest.approx(whole.variance_reduction, rel=1e-9)
    rows, same = merged.result.observables, whole.result.observables
    assert [row.name for row in rows] == [row.name for row in same]
    np.testing.assert_allclose([r.value for r in rows], [r.value for r in same], rtol=1e-9)


def test_a_missing_shard_is_named():
    with pytest.raises(InputError, match=r"all 4 of them, got none for 2, 4"):
        merge_shards([shards(4)[0], shards(4)[2]])


def test_shards_of_different_calculations_do_not_mix():
    mixed = [*shards(2)[:1], *shards(2, pair.samples(100))[1:]]
    with pytest.raises(InputError, match="one calculation"):
        merge_shards(mixed)


def test_samples_without_an_energy_are_left_out_and_counted():
    x, y = pair.samples(60)
    states = pair.states()

    def hollow(z):
        return torch.where(z[:, 0, 0] == x[3, 0, 0], torch.inf, states[0].reduced_potential(z))

    made = [work_shard(hollow, states[1], x, y, part=(i, 2)) for i in (1, 2)]
    merged = merge_shards(made)
    assert merged.works.forward.size == 59
    assert any(check.name == "samples left out" for check in merged.result.checks)


def test_checks_survive_the_merger():
    """Membership of all samples, as a single run would look at them, and the notes."""
    x, y = pair.samples(300)
    hot = torch.from_numpy(pair.CENTRES) + 1.3 * (x - torch.from_numpy(pair.CENTRES))
    note = Check("trajectory is whole", 7.0, 0.0, False, "soft", "cut off")
    merged = merge_shards(shards(2, (hot, y), notes=[note]))
    whole = targeted_fep(*pair.states(), hot, y)
    assert note in merged.result.checks
    for side in "AB":
        name = f"samples of {side} are at their state"
        (there,), (here,) = (
            [c for c in r.result.checks if c.name == name] for r in (merged, whole)
        )
        assert there.value == pytest.approx(here.value)
        assert there.passed == here.passed == (side == "B")


def test_shards_of_other_states_or_seeds_are_refused():
    one, x = shards(2)[0], pair.samples(120)
    states = pair.states()
    hot = ThermodynamicState(states[1].energy, 0.9 * states[1].beta)
    bare = lambda z: 1.01 * states[1].reduced_potential(z)  # noqa: E731 - of any kind
    cases = ((hot, 0, ".*states"), (bare, 0, ".*states"), (states[1], 1, "seeds"))
    for other, seed, message in cases:
        strange = work_shard(states[0], other, *x, part=(2, 2), seed=seed)
        with pytest.raises(InputError, match=f"one calculation, got different {message}"):
            merge_shards([one, strange])


def test_shards_through_other_maps_are_refused():
    """Of one kind, so that only what they do tells them apart."""
    x = pair.samples(120)
    half, twice = (
        DenseAffine(scale * torch.eye(9).double(), torch.zeros(3, 3).double())
        for scale in (0.5, 2.0)
    )
    made = [
        work_shard(*pair.states(), *x, part=(k, 2), map=bijector)
        for k, bijector in ((1, half), (2, twice))
    ]
    with pytest.raises(InputError, match="one calculation, got different maps"):
        merge_shards(made)


def test_the_cost_is_that_of_all_shards():
    made = shards(2)
    total = merge_shards(made).result.cost
    assert total.cpu_seconds >= sum(shard["cost"][0] for shard in made)
    assert total.energy_evaluations == sum(shard["cost"][1] for shard in made)


def test_halves_are_those_of_the_samples_that_have_an_energy():
    """Dropped samples, one with NaN coordinates, do not move what a fitted map may see."""
    x, y = pair.samples(61)
    x[3, 0, 0] = torch.nan
    merged = merge_shards(shards(2, (x, y), map=GaussianFit()))
    whole = targeted_fep(*pair.states(), x, y, map=GaussianFit())
    assert whole.mapped.value == pytest.approx(merged.mapped.value, rel=1e-12)
    np.testing.assert_allclose(
        np.sort(merged.works.forward), np.sort(whole.works.forward), rtol=1e-12
    )
    assert any(check.name == "samples left out" for check in whole.result.checks)


def test_mistakes(tmp_path):
    with pytest.raises(InputError, match="shard: expected i/n"):
        work_shard(*pair.states(), *pair.samples(10), part=(0, 3))
    with pytest.raises(InputError, match="shards: expected files"):
        load_shards(tmp_path)
    (tmp_path / "shard-0001-of-0002.npz").write_bytes(b"PK but broken")
    with pytest.raises(InputError, match="shards: expected readable"):
        load_shards(tmp_path)


def test_a_second_part_with_other_works_is_refused():
    first, second = shards(2)
    merge_shards([first, second, first])  # computed twice
    other = dict(first) | {"plain_w_F": first["plain_w_F"] + 1.0}
    with pytest.raises(InputError, match="two that differ of part 1"):
        merge_shards([first, second, other])


def test_a_shard_is_not_replaced_by_another(tmp_path):
    first, _ = shards(2)
    save_shard(tmp_path, first)
    save_shard(tmp_path, first)
    with pytest.raises(InputError, match="another"):
        save_shard(tmp_path, dict(first) | {"plain_w_F": first["plain_w_F"] + 1.0})


def test_changed_shards_are_refused(tmp_path):
    """Whatever is changed: each field left out, each made worthless, and twenty cuts."""
    path = save_shard(tmp_path, shards(1)[0])
    whole = path.read_bytes()
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    for k, name in enumerate([*arrays] * 2):
        changed = dict(arrays)
        if k < len(arrays):
            del changed[name]
        else:
            kind = arrays[name].dtype.kind
            changed[name] = np.array("x") if kind == "U" else arrays[name] * np.nan
        np.savez(path, allow_pickle=False, **changed)
        with pytest.raises(InputError, match=r"^shards: expected"):
            load_shards(tmp_path)
    for cut in range(0, len(whole), len(whole) // 20):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"^shards: expected"):
            load_shards(tmp_path)
