"""What every chapter of *Papers, Re-run* imports: devices, data, training, experiments, tables and figures."""

from shared.experiment import open_chapter

__all__ = ["open_chapter"]
