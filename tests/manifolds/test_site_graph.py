"""Neighbours of sites: the same from every site and for every size."""

import numpy as np
import pytest

from helmflow.errors import InputError
from helmflow.manifolds.site_graph import site_graph
from helmflow.manifolds.symmetry import crystal_symmetry
from helmflow.system import load_system

CRYSTALS = {  # reach, colours, neighbours, nearest
    "ice/mw_cubic_64": (1.7, 8, 16, 4),
    "ice/mw_cubic_216": (1.7, 8, 16, 4),
    "ice/mw_hexagonal_64": (1.7, 8, 15, 4),
    "lennard_jones/fcc_108": (1.1, 4, 12, 12),
    "lennard_jones/fcc_32": (1.1, 4, 12, 12),
}


def graph_of(name):
    system = load_system(name)
    positions, cell = system.reference_positions.numpy(), system.cell.numpy()
    symmetry = crystal_symmetry(positions, cell, system.species)
    graph = site_graph(positions, cell, symmetry, reach=CRYSTALS[name][0])
    return graph, positions, cell


@pytest.fixture(scope="module", params=CRYSTALS)
def case(request):
    return request.param, *graph_of(request.param)


def test_sizes(case):
    name, graph, positions, _ = case
    _, n_colours, k, n_nearest = CRYSTALS[name]
    assert len(graph.colours) == n_colours
    assert graph.neighbours.shape == (len(positions), k)
    assert graph.n_nearest == n_nearest
    assert sorted(np.concatenate(graph.colours)) == list(range(len(positions)))


def test_neighbours_lie_where_the_frames_say(case):
    _, graph, positions, cell = case
    for site, frame in enumerate(graph.frames):
        assert np.allclose(frame @ frame.T, np.eye(3))
        expected = positions[site] + graph.offsets @ frame.T
        gap = np.linalg.solve(cell.T, (positions[graph.neighbours[site]] - expected).T).T
        assert np.abs(gap - np.rint(gap)).max() < 1e-6


def test_colours_do_not_touch(case):
    _, graph, positions, _ = case
    colour = np.empty(len(positions), dtype=int)
    for c, sites in enumerate(graph.colours):
        colour[sites] = c
    assert (colour[graph.neighbours] != colour[:, None]).all()


def test_a_larger_crystal_has_the_same_graph():
    small, *_ = graph_of("ice/mw_cubic_64")
    large, *_ = graph_of("ice/mw_cubic_216")
    assert np.allclose(small.offsets, large.offsets)
    for a, b in zip(small.colours, large.colours, strict=True):
        assert np.allclose(small.frames[a[0]], large.frames[b[0]])
        for k in range(16):  # the colour of every neighbour
            i = [np.isin(small.neighbours[a[0], k], c).item() for c in small.colours].index(True)
            j = [np.isin(large.neighbours[b[0], k], c).item() for c in large.colours].index(True)
            assert i == j


def test_two_kinds_of_sites_are_refused():
    positions = np.array([[0.0, 0, 0], [1.0, 1, 1]])
    cell = 2.0 * np.eye(3)
    symmetry = crystal_symmetry(positions, cell, ("Cs", "Cl"))
    with pytest.raises(InputError, match="one kind of site"):
        site_graph(positions, cell, symmetry, reach=1.1)
    one = crystal_symmetry(positions[:1], cell, ("X",))
    with pytest.raises(InputError, match="several sites"):
        site_graph(positions[:1], cell, one, reach=1.1)
