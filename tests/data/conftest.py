"""A cache of its own for tests that change it, and a stand-in for pip that can be slow, wrong or broken."""

import os
import zipfile

import pytest
import torch

from shared.data import cache, wheels

FAKE_PIP = """\
import os, pathlib, shutil, sys, time
folder = pathlib.Path(__file__).parent
behaviour = (folder / "behaviour").read_text()
with open(folder / "calls", "a") as calls:
    calls.write(f"{os.getpid()}\\n")
target = pathlib.Path(sys.argv[sys.argv.index("--dest") + 1])
if behaviour == "slow":
    (target / "half.whl").write_bytes(b"half")
    time.sleep(60)
if behaviour == "full":
    sys.exit("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device")
if behaviour == "steady":
    time.sleep(1)
name = "other.whl" if behaviour == "wrong" else "tiny.whl"
shutil.copy(folder / name, target / "tiny-1.0-py3-none-any.whl")
"""


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache for one test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("PAPERS_CACHE", str(folder))
    return folder


class FakePip:
    """`python -m pip` as this process's children see it; `behaves` says how."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "__init__.py").touch()
        (folder / "__main__.py").write_text(FAKE_PIP)
        self.behaves("well")

    def behaves(self, how):
        (self.folder / "behaviour").write_text(how)

    @property
    def calls(self):
        path = self.folder / "calls"
        return path.read_text().split() if path.exists() else []


@pytest.fixture
def fake_pip(tmp_path, monkeypatch):
    folder = tmp_path / "path" / "pip"
    folder.mkdir(parents=True)
    for name, text in {"tiny": "a,b", "other": "something else"}.items():
        with zipfile.ZipFile(folder / f"{name}.whl", "w") as archive:
            archive.writestr("tiny/data.csv", text)
    monkeypatch.setenv("PYTHONPATH", str(folder.parent), prepend=os.pathsep)
    return FakePip(folder)


@pytest.fixture
def tiny(fake_pip):
    """The data wheel that the stand-in for pip serves."""
    path = fake_pip.folder / "tiny.whl"
    return wheels.Wheel(
        package="tiny",
        version="1.0",
        file="tiny-1.0-py3-none-any.whl",
        sha256=cache.sha256_of(path),
        bytes=path.stat().st_size,
        licence="MIT",
        members=("tiny/*",),
    )


@pytest.fixture
def placed():
    """The folder of canonical sets placed by hand, for tests that need a real one."""
    return lambda name: os.path.join(os.environ.get("PAPERS_DATA", ""), name)
