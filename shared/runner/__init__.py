"""Runs chapters: papermill in batches, on this machine or on a Dask cluster, and the command line ``papers``.

``source`` reads source notebooks (their hash, their parameters); ``execute`` runs one notebook in a kernel of its
own; ``provenance`` says what it ran on; ``batch`` hands many notebooks to Dask and stores what comes back;
``status`` compares sources with executed copies; ``cli`` is the command line.
"""

import importlib
import sys

# nbformat imports jsonschema, which compiles a grammar of internet addresses if it can: two seconds in every process,
# for a check that no notebook needs. It does without when that package cannot be imported.
if "rfc3987_syntax" not in sys.modules:
    sys.modules["rfc3987_syntax"] = None
    importlib.import_module("nbformat")
    del sys.modules["rfc3987_syntax"]
