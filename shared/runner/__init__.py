"""Runs chapters: papermill in batches, on this machine or on a Dask cluster, and the command line ``papers``.

``source`` reads source notebooks (their hash, their parameters); ``execute`` runs one notebook in a kernel of its
own; ``provenance`` says what it ran on; ``batch`` hands many notebooks to Dask and stores what comes back;
``status`` compares sources with executed copies; ``cli`` is the command line.
"""
