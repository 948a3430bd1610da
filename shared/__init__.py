"""What every chapter of *Papers, Re-run* imports: devices, data, training, experiments, tables and figures."""

__all__ = ["open_chapter"]


def __getattr__(name: str):
    """Import ``open_chapter`` when it is asked for: command line and workers do without torch, which takes seconds."""
    if name == "open_chapter":
        from shared.experiment import open_chapter

        return open_chapter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
