"""The outlines of a small model and of a published one."""

import pytest

from conftest import tiny_components
from kinescribe.perf.outline import Outline, loaded
from perf_requests import full_size


@pytest.fixture
def tiny() -> Outline:
    return loaded(tiny_components())


@pytest.fixture(scope="session")
def large() -> Outline:
    """The 1.7 B model in half precision."""
    return full_size("modelscope-1.7b")
