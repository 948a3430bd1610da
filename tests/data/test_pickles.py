"""Pickles of others: numbers come out, nothing else happens."""

import collections
import os
import pickle

import numpy as np
import pytest
import scipy.sparse

from shared.data import UnsafeData, pickles


class Hostile:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def test_numbers_pass():
    graph = collections.defaultdict(list, {0: [1, 2], 1: [0]})
    matrix = scipy.sparse.csr_matrix(np.eye(3, dtype=np.float32))
    back = pickles.loads(pickle.dumps({"graph": graph, "matrix": matrix, "score": np.float64(0.5)}))
    assert back["graph"] == graph
    assert (back["matrix"].toarray() == np.eye(3)).all()
    assert back["score"] == 0.5


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_hostile_pickles_do_nothing(tmp_path, protocol):
    target = tmp_path / "made"
    for hostile in (
        Hostile(os.mkdir, str(target)),
        Hostile(eval, f"open({str(target)!r}, 'w')"),
        Hostile(getattr, [], "append"),
    ):
        content = pickle.dumps({"valid_perf": hostile}, protocol=protocol)
        with pytest.raises(UnsafeData, match="no data set needs"):
            pickles.loads(content)
    assert not target.exists()


def test_dotted_names_do_not_reach_further():
    content = b"\x80\x04\x8c\x08builtins\x8c\x0elist.__class__\x93."
    with pytest.raises(UnsafeData):
        pickles.loads(content)
