"""Citation graphs and the import graph."""

import os

import numpy as np
import pytest
import torch
from torch_geometric.utils import coalesce, is_undirected

from shared import data
from shared.data import graphs, importnet

SIZES = {  # nodes, words, directed edges, training nodes
    "cora": (2708, 1433, 10_556, 140),
    "citeseer": (3327, 3703, 9_104, 120),
    "pubmed": (19_717, 500, 88_648, 60),
}


@pytest.mark.parametrize("name", SIZES)
def test_citation_graphs(name):
    graph = data.load(name)
    nodes, words, edges, train = SIZES[name]
    assert graph.x.shape == (nodes, words) and graph.x.dtype == torch.float32
    assert graph.edge_index.shape == (2, edges) and graph.edge_index.dtype == torch.int64
    assert is_undirected(graph.edge_index) and not graph.has_self_loops()
    assert graph.y.shape == (nodes,) and graph.y.dtype == torch.int64
    assert graph.y.bincount().tolist() == list(data.card(name).balance.values())
    masks = torch.stack([graph.train_mask, graph.val_mask, graph.test_mask])
    assert masks.sum(1).tolist() == [train, 500, 1000] and masks.sum(0).max() == 1
    assert graph.y[graph.train_mask].bincount().tolist() == [20] * (train // 20)
    if name == "pubmed":
        assert 0 <= graph.x.min() and 1 < graph.x.max() < 1.5
    else:
        assert set(graph.x.unique().tolist()) == {0, 1}
    source, target = graph.edge_index
    assert (graph.y[source] == graph.y[target]).float().mean() > 0.7  # papers cite their own field


@pytest.mark.parametrize("name", ["cora", "citeseer"])
def test_equal_to_planetoid_of_pytorch_geometric(name, placed):
    if not os.path.exists(os.path.join(placed("planetoid"), f"ind.{name}.x")):
        pytest.skip("Planetoid's raw files are not under $PAPERS_DATA/planetoid")
    from torch_geometric.io.planetoid import read_planetoid_data

    ours, theirs = data.load(name), read_planetoid_data(placed("planetoid"), name)
    assert set(ours.keys()) == set(theirs.keys())
    for key in theirs.keys():
        assert torch.equal(ours[key], theirs[key]), key


def test_citeseer_has_its_isolated_nodes():
    graph = data.load("citeseer")
    empty = graph.x.sum(1) == 0
    assert empty.sum() == 15 and (graph.y[empty] == 0).all()
    assert not (empty & (graph.train_mask | graph.val_mask | graph.test_mask)).any()


def test_other_graphs_without_network(own_cache, monkeypatch):
    def refuse(root, name):
        raise OSError("Name or service not known")

    monkeypatch.setattr(graphs.torch_geometric("datasets"), "Amazon", refuse)
    with pytest.raises(data.FetchError, match="'amazon-photo' could not be downloaded .*: connect to the network"):
        data.load("amazon-photo")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of two sub-packages with three modules each, whose graph is known by hand."""
    root = tmp_path / "lib" / "tinypackage"
    files = {
        "__init__.py": "",
        "wing/__init__.py": "from .feather import moult_plumage",
        "wing/feather.py": '"""Feathers grow."""\nimport os\ndef moult_plumage(dryWing): return dryWing.shed',
        "wing/bone.py": "from tinypackage.wing import feather\nfrom ..fin import scale",
        "fin/__init__.py": "",
        "fin/scale.py": "import tinypackage.fin.ray\n\nclass GlossyScale:\n    '''Glossy plates.'''",
        "fin/ray.py": "from . import scale\nshed = 1",
        "fin/tests/test_ray.py": "from tinypackage.wing import bone",
        "tail/__init__.py": "from tinypackage.wing import bone",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(root.parent))
    return "tinypackage"


def test_importnet_of_a_known_package(own_cache, package):
    graph = data.load("importnet", packages=(package,), smallest=3)
    modules = ["fin", "fin.ray", "fin.scale", "wing", "wing.bone", "wing.feather"]
    assert graph.names == [f"tinypackage.{module}" for module in modules]
    assert graph.classes == ["tinypackage.fin", "tinypackage.wing"]
    assert graph.y.tolist() == [0, 0, 0, 1, 1, 1]
    # ray-scale (both ways), wing-feather, bone-feather, bone-scale; the tests and the small sub-package are left out.
    assert graph.edge_index.tolist() == [[1, 2, 2, 3, 4, 4, 5, 5], [2, 1, 4, 5, 2, 5, 3, 4]]
    assert graph.words == ["dry", "feathers", "glossy", "grow", "moult", "plates", "plumage", "scale", "shed"]
    assert graph.x[5].nonzero().flatten().tolist() == [graph.words.index(w) for w in
        ("dry", "feathers", "grow", "moult", "plumage", "shed")]  # fmt: skip
    assert graph.x[5].sum() == pytest.approx(1)


def test_importnet_errors(own_cache, package):
    with pytest.raises(data.DataError, match="'no_such_package' is not installed"):
        data.load("importnet", packages=("no_such_package",))
    with pytest.raises(data.DataError, match="has 99 modules: lower `smallest`"):
        data.load("importnet", packages=(package,), smallest=99)
    assert not list(own_cache.glob("importnet/*"))


def test_importnet_of_the_book():
    graph = data.load("importnet")
    nodes = len(graph.names)
    assert 600 < nodes < 900 and graph.x.shape == (nodes, importnet.WORDS)
    assert len(graph.classes) == graph.y.max() + 1 and graph.y.bincount().min() >= 20
    assert is_undirected(graph.edge_index) and not graph.has_self_loops()
    assert torch.equal(graph.edge_index, coalesce(graph.edge_index))
    source, target = graph.edge_index
    assert 0.7 < (graph.y[source] == graph.y[target]).float().mean() < 0.9
    sums = graph.x.sum(1)
    assert np.isin(sums.round(decimals=5).numpy(), [0, 1]).all()
    labels = {part for name in graph.classes for part in name.replace("_", ".").split(".")}
    assert not labels & set(graph.words)
