"""Fixtures of the runner's tests."""

import pytest

from tests.runner.checkout import Checkout


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    """An empty checkout of its own for each test."""
    return Checkout(tmp_path / "checkout")
