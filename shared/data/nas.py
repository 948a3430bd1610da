"""NAS-Bench-Graph: the measured accuracy, latency and size of every architecture of a small space, on nine graphs."""

from __future__ import annotations

import itertools

from . import cache, pickles, wheels
from .errors import DataError
from .registry import loader

# The nine ways to wire four nodes, as the parent of each node (0 is the input, 1 to 4 the nodes); leaves go to the
# output.
LINKS = [
    (0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 1), (0, 0, 1, 2), (0, 0, 1, 3), (0, 1, 1, 1), (0, 1, 1, 2), (0, 1, 2, 2),
    (0, 1, 2, 3),
]  # fmt: skip
OPERATIONS = ("gat", "gcn", "gin", "cheb", "sage", "arma", "graph", "fc", "skip")
GRAPHS = ("cora", "citeseer", "pubmed", "cs", "physics", "photo", "computers", "arxiv", "proteins")


def _tree(links):
    """Children of each node of a wiring: {0: [...], 1: [...], ...}, nodes numbered from 1 in the order of `links`."""
    children = {node: [] for node in range(len(links) + 1)}
    for node, parent in enumerate(links, start=1):
        children[parent].append(node)
    return children


def canonical(links, operations) -> tuple[int, ...]:
    """The architecture's key in the table: three free links and four operation numbers, the same for all equal
    networks.

    links: the parent of each of the four nodes, in any order in which parents come first; operations: their names.
    Equal networks differ by the order of their nodes, or by where an identity stands: a `skip` on a path does nothing
    but to lengthen it, so the table writes it at the input; only a `skip` leaf beside other children of an inner node
    counts, since it passes that node's output on. Raises `DataError` for operations or links outside the space.
    """
    links, operations = tuple(links), tuple(operations)
    if len(links) != 4 or len(operations) != 4 or any(not 0 <= parent < i for i, parent in enumerate(links, start=1)):
        raise DataError(f"{links} is not a wiring of four nodes: each link names the input (0) or an earlier node.")
    if unknown := set(operations) - set(OPERATIONS):
        raise DataError(
            f"{', '.join(sorted(map(str, unknown)))}: no such operation, choose from {', '.join(OPERATIONS)}."
        )
    name = dict(enumerate(operations, start=1))
    children = _tree(links)
    parent = dict(enumerate(links, start=1))
    chain = []
    skips = [node for node in name if name[node] == "skip"]
    for node in sorted(skips, key=lambda node: not children[node]):  # inner ones first: a leaf's place depends on them
        if children[node] or len(children[parent[node]]) == 1 or parent[node] == 0:
            children[parent[node]].remove(node)
            children[parent[node]].extend(children[node])
            parent.update(dict.fromkeys(children[node], parent[node]))
            chain.append(node)
    kept = [node for node in name if node not in chain]
    parent = {node: parent[node] or (chain[-1] if chain else 0) for node in kept}
    parent.update(zip(chain, [0, *chain], strict=False))
    return min(_orders(parent, name))


def _orders(parent, name):
    """Keys of all orders of the nodes in which the wiring is one of `LINKS`."""
    for order in itertools.permutations(parent):
        place = {0: 0, **{node: i for i, node in enumerate(order, start=1)}}
        links = tuple(place[parent[node]] for node in order)
        if links in LINKS:
            yield (*links[1:], *(OPERATIONS.index(name[node]) for node in order))


@loader("nasbench-graph")
def nasbench_graph(name: str, graph: str = "cora"):
    """The measured architectures on one graph, a data frame with one row an architecture (26,206; 2,021 on
    `proteins`).

    graph: one of cora, citeseer, pubmed, cs, physics, photo, computers, arxiv, proteins. Columns: architecture (tuple
    of 7 integers: links of nodes 2 to 4, then the operations of nodes 1 to 4, numbered as in `nas.OPERATIONS`; see
    `nas.canonical`), links (4 integers), operations (4 names), valid and test (accuracy in 0..1, ROC-AUC on proteins;
    means of three training runs), latency (seconds), parameters (millions). The all-skip network is not in the table.
    """
    import numpy as np
    import pandas as pd

    if graph not in GRAPHS:
        raise DataError(f"NAS-Bench-Graph has no graph {graph!r}: choose from {', '.join(GRAPHS)}.")

    def parse(path):
        content = wheels.archive("nas-bench-graph").read(f"nas_bench_graph/light/{graph}.bench")
        bench = sorted(pickles.loads(content).items())
        values = [[row[field] for field in ("valid_perf", "perf", "latency", "para")] for _, row in bench]
        np.savez(path, code=[code for code, _ in bench], values=np.array(values, dtype=np.float64))

    entry = f"parsed/nasbench-graph-{graph}-{wheels.table()['nas-bench-graph'].sha256[:16]}.npz"
    stored = np.load(cache.built(entry, parse))
    # A code is five decimal digits: the wiring's number in LINKS, then the number of each node's operation.
    digits = stored["code"][:, None] // 10 ** np.arange(4, -1, -1) % 10
    links = [LINKS[row] for row in digits[:, 0]]
    names = [tuple(OPERATIONS[i] for i in row) for row in digits[:, 1:].tolist()]
    frame = pd.DataFrame(stored["values"], columns=["valid", "test", "latency", "parameters"])
    frame.insert(
        0, "architecture", [(*link[1:], *row) for link, row in zip(links, digits[:, 1:].tolist(), strict=True)]
    )
    frame.insert(1, "links", links)
    frame.insert(2, "operations", names)
    return frame
