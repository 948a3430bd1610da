"""Reading pickles that others wrote: only plain containers, NumPy arrays and SciPy's sparse matrices can come out of
them, and only tensors and their containers out of PyTorch's files.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import warnings

from .errors import UnsafeData

# What a pickle may name and where it is found today, by where older versions kept it.
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_ALLOWED = {
    (module, name): (today, name)
    for name, today, modules in (
        ("list", "builtins", ("builtins", "__builtin__")),
        ("defaultdict", "collections", ("collections",)),
        ("encode", "_codecs", ("_codecs",)),
        ("dtype", "numpy", ("numpy",)),
        ("ndarray", "numpy", ("numpy",)),
        ("_reconstruct", "numpy._core.multiarray", _MULTIARRAY),
        ("scalar", "numpy._core.multiarray", _MULTIARRAY),
        ("csr_matrix", "scipy.sparse", ("scipy.sparse.csr", "scipy.sparse._csr")),
    )
    for module in modules
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
    with warnings.catch_warnings():  # NumPy warns of how old pickles spell their types
        warnings.simplefilter("ignore")
        return _Restricted(io.BytesIO(content), encoding="latin1").load()


@contextlib.contextmanager
def tensors_only(what: str):
    """Within, `torch.load` reads nothing but tensors and their containers, even where a library asks it for more.

    PyTorch Geometric reads its files again without any restriction when the restricted way fails. Raises `UnsafeData`
    for such a file; `what` names it. Holds for the whole process while it lasts.
    """
    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except pickle.UnpicklingError as error:
        raise UnsafeData(
            f"A file of {what} asks for more than tensors, which no data set needs: do not use it."
        ) from error
    finally:
        if before is None:
            del os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
        else:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = before
