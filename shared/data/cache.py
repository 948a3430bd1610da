"""The cache: one directory, written only by renaming finished files into place.

`$PAPERS_CACHE` moves it; otherwise it is the user's cache directory of the operating system. Whatever lies under its
final name is complete: a process that dies half-way leaves only a file in `staging/`, which the next fetch of the
same thing removes. A lock file for each entry lets several processes ask for the same thing at once; one of them does
the work.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import uuid
from pathlib import Path

from .errors import CacheError, explain_disk


def directory() -> Path:
    """The cache's directory (not necessarily there yet)."""
    chosen = os.environ.get("PAPERS_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("papers-rerun"))


def key(*parts) -> str:
    """A content key: 16 hexadecimal digits of the sha256 of the parts' text."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]


def sha256_of(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def staging(entry: Path):
    """An empty directory for making `entry`, on the same disk as the cache, with the entry's lock held; gone
    afterwards.

    Raises `CacheError` when the cache cannot be written, its disk is full, or it is deleted meanwhile.
    """
    from filelock import FileLock

    root = directory()
    name = key(entry.relative_to(root).as_posix())
    with explain_disk(root):
        (root / "locks").mkdir(parents=True, exist_ok=True)
        (root / "staging").mkdir(exist_ok=True)
        entry.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(root / "locks" / name):
            # What a killed process left: nobody else works on this entry, since the lock is ours now.
            for stale in (root / "staging").glob(f"{name}-*"):
                shutil.rmtree(stale, ignore_errors=True)
            place = root / "staging" / f"{name}-{uuid.uuid4().hex}"
            place.mkdir()
            try:
                yield place
            except FileNotFoundError as error:
                if place.exists():
                    raise
                raise CacheError(f"The data cache {root} was deleted while it was in use: run this again.") from error
            finally:
                shutil.rmtree(place, ignore_errors=True)


def built(relative: str, build) -> Path:
    """The cached file `relative`, made by `build(path)` when it is not there yet.

    `build` writes the file at the path it is given; only a finished file reaches its final name. Put everything that
    the content depends on into the name (see `key`), since an entry is never rewritten.
    """
    entry = directory() / relative
    if not entry.exists():
        with staging(entry) as place:
            if not entry.exists():  # another process may have made it while this one waited for the lock
                draft = place / entry.name
                build(draft)
                os.replace(draft, entry)
    return entry
