import numpy as np
import pytest
import torch

import gaussian_pair as pair
from helmflow.errors import InputError
from helmflow.recipes.two_states.shards import load_shards, merge_shards, save_shard, work_shard
from helmflow.recipes.two_states.targeted import targeted_fep
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


def test_mistakes(tmp_path):
    with pytest.raises(InputError, match="shard: expected i/n"):
        work_shard(*pair.states(), *pair.samples(10), part=(0, 3))
    with pytest.raises(InputError, match="shards: expected files"):
        load_shards(tmp_path)
    (tmp_path / "shard-0001-of-0002.npz").write_bytes(b"PK but broken")
    with pytest.raises(InputError, match="shards: expected readable"):
        load_shards(tmp_path)
