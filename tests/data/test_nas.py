"""NAS-Bench-Graph: the table, and which networks are the same."""

import itertools
import random

import numpy as np
import pytest

from shared import data
from shared.data import nas


@pytest.fixture(scope="module")
def cora():
    return data.load("nasbench-graph", graph="cora")


def test_the_table(cora):
    assert list(cora) == ["architecture", "links", "operations", "valid", "test", "latency", "parameters"]
    assert len(cora) == cora["architecture"].nunique() == 26_206
    assert cora[["valid", "test"]].to_numpy().min() > 0 and cora[["valid", "test"]].to_numpy().max() < 1
    assert (cora["latency"] > 0).all() and (cora["parameters"] > 0).all()
    first = cora.iloc[0]
    assert first["operations"] == ("gat",) * 4 and first["links"] == (0, 0, 0, 0)
    assert first["valid"] == pytest.approx(0.773333, abs=1e-6) and first["test"] == pytest.approx(0.797)
    assert ("skip",) * 4 not in set(cora["operations"])
    # All four nodes fully connected: no graph is used, so the accuracy is far below that of graph networks.
    connected = cora["operations"].map(lambda names: set(names) == {"fc"})
    assert cora.loc[connected, "test"].max() < cora["test"].median() - 0.1


@pytest.mark.parametrize("graph", nas.GRAPHS)
def test_every_graph(graph):
    frame = data.load("nasbench-graph", graph=graph)
    assert len(frame) == (2021 if graph == "proteins" else 26_206)
    assert np.isfinite(frame[["valid", "test", "latency", "parameters"]].to_numpy()).all()


def test_unknown_graph():
    with pytest.raises(data.DataError, match="no graph 'karate': choose from cora"):
        data.load("nasbench-graph", graph="karate")


def test_rows_are_their_own_canonical_form(cora):
    for _, row in cora.sample(500, random_state=0).iterrows():
        assert nas.canonical(row["links"], row["operations"]) == row["architecture"]


def test_every_network_of_the_space_is_in_the_table(cora):
    known = set(cora["architecture"])
    wirings = list(itertools.product([0], [0, 1], [0, 1, 2], [0, 1, 2, 3]))
    draw = random.Random(0)
    for _ in range(2000):
        operations = draw.choices(nas.OPERATIONS, k=4)
        if set(operations) != {"skip"}:
            assert nas.canonical(draw.choice(wirings), operations) in known


def test_equal_networks():
    # Two orders of the network drawn in the benchmark's documentation.
    drawn = nas.canonical((0, 1, 2, 1), ("gcn", "gin", "fc", "cheb"))
    assert drawn == nas.canonical((0, 1, 1, 2), ("gcn", "gin", "cheb", "fc"))
    assert drawn != nas.canonical((0, 1, 1, 2), ("gcn", "cheb", "gin", "fc"))  # here fc follows cheb
    # Four leaves in another order, and two chains in another order.
    star = (0, 0, 0, 0)
    assert nas.canonical(star, ("gcn", "gat", "fc", "gin")) == nas.canonical(star, ("fc", "gin", "gat", "gcn"))
    chains = nas.canonical((0, 0, 1, 2), ("gcn", "gat", "fc", "gin"))
    assert chains == nas.canonical((0, 0, 2, 1), ("gcn", "gat", "gin", "fc"))
    # An identity in the middle of a chain is one at its start.
    chain = (0, 1, 2, 3)
    assert nas.canonical(chain, ("gcn", "skip", "gat", "fc")) == nas.canonical(chain, ("skip", "gcn", "gat", "fc"))
    # A skip leaf beside another child of an inner node passes that node's output on: it counts.
    passed_on = nas.canonical((0, 1, 1, 1), ("gcn", "skip", "gat", "fc"))
    assert passed_on != nas.canonical((0, 1, 2, 2), ("skip", "gcn", "gat", "fc"))


@pytest.mark.parametrize(
    ("links", "operations", "message"),
    [
        ((0, 1, 2), ("gcn",) * 3, "not a wiring"),
        ((0, 2, 1, 0), ("gcn",) * 4, "not a wiring"),
        ((0, 0, 0, 0), ("gcn", "gcn", "gcn", "conv"), "conv: no such operation"),
    ],
)
def test_networks_outside_the_space(links, operations, message):
    with pytest.raises(data.DataError, match=message):
        nas.canonical(links, operations)
