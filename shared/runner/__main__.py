"""``python -m shared.runner`` is the command ``papers``."""

from shared.runner.cli import app

if __name__ == "__main__":
    app(prog_name="papers")
