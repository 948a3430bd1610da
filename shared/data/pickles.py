"""Reading pickles that others wrote: only plain containers, NumPy arrays and SciPy's sparse matrices can come out of
them.
"""

from __future__ import annotations

import io
import pickle

from .errors import UnsafeData

# What a pickle may name, in the old and the new spelling, and where it is found today.
_ALLOWED = {
    ("__builtin__", "list"): ("builtins", "list"),
    ("builtins", "list"): ("builtins", "list"),
    ("collections", "defaultdict"): ("collections", "defaultdict"),
    ("_codecs", "encode"): ("_codecs", "encode"),
    ("numpy", "dtype"): ("numpy", "dtype"),
    ("numpy", "ndarray"): ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"): ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"): ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"): ("numpy._core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"): ("numpy._core.multiarray", "scalar"),
    ("scipy.sparse.csr", "csr_matrix"): ("scipy.sparse", "csr_matrix"),
    ("scipy.sparse._csr", "csr_matrix"): ("scipy.sparse", "csr_matrix"),
}


class _Restricted(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) not in _ALLOWED:
            raise UnsafeData(f"The pickle asks for {module}.{name}, which no data set needs: do not use this file.")
        return super().find_class(*_ALLOWED[module, name])


def loads(content: bytes):
    """The object in a pickle of numbers; strings of Python 2 become latin-1 text.

    Raises `UnsafeData` when the pickle names anything but lists, dictionaries, arrays and sparse matrices: nothing is
    run.
    """
    return _Restricted(io.BytesIO(content), encoding="latin1").load()
