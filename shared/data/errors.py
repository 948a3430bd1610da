"""What can go wrong with data: every message is one sentence that says what was wrong and what to do."""

from __future__ import annotations

import contextlib
import errno


class DataError(RuntimeError):
    """A data set cannot be had; the message says why and what to do about it."""


class UnknownName(DataError, KeyError):
    """No data set of that name; the message offers the nearest ones."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would print the message in quotes


class HashMismatch(DataError):
    """A file is not the one that the table of wheels names."""


class FetchError(DataError):
    """A file could not be fetched: no network, no such version, the fetching program failed."""


class CacheError(DataError):
    """The cache cannot be written: no permission, or the disk is full."""


class UnsafeData(DataError):
    """An archive or a pickle holds something that a data set has no business holding."""


@contextlib.contextmanager
def explain_disk(directory):
    """Turn what the operating system says about an unwritable `directory` into a `CacheError` that says what to do."""
    try:
        yield
    except OSError as error:
        inside = error.filename is None or str(error.filename).startswith(str(directory))
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(directory) from error
        if inside and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            message = f"The data cache {directory} cannot be written: make it writable, or set PAPERS_CACHE elsewhere."
            raise CacheError(message) from error
        raise


def disk_full(directory) -> CacheError:
    """The error for a full disk."""
    return CacheError(
        f"The disk that holds {directory} is full: free some space, or set PAPERS_CACHE to a larger disk."
    )
