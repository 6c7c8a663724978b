"""Any executor plugs in: a local dask cluster, one of whose two workers is killed midway."""

import os
import signal
import threading
import time

import distributed
import pytest
import torch

from helmflow.energies.openmm import OpenMMEnergy
from openmm_systems import argon

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.slow
def test_a_killed_worker_loses_nothing():
    system, sites = argon(n_side=5)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((4000, *sites.shape), generator=generator, dtype=torch.float64)
    x = sites + 0.01 * noise
    alone = OpenMMEnergy(system, platform="Reference")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        together = OpenMMEnergy(
            system, platform="Reference", executor=client.get_executor(), chunk=10
        )
        together(x[:20])  # contexts are there
        victim = next(iter(client.run(os.getpid).values()))
        finished, midway = threading.Event(), []

        def kill():
            time.sleep(0.3)
            os.kill(victim, signal.SIGKILL)
            midway.append(not finished.is_set())

        thread = threading.Thread(target=kill)
        thread.start()
        value, slope = together.energy_and_gradient(x)
        finished.set()
        thread.join()
        assert midway == [True]
        assert victim not in client.run(os.getpid).values()
    expected, expected_slope = alone.energy_and_gradient(x)
    assert torch.equal(value, expected)
    assert torch.equal(slope, expected_slope)
