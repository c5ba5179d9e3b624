"""The package's own names: there when asked for, and nothing loaded before."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ecr_async_pull

LISTING = "import sys, ecr_async_pull; print(*sorted(sys.modules))"


@pytest.mark.parametrize("name", ecr_async_pull.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(ecr_async_pull, name) is not None
    assert name in dir(ecr_async_pull)


def test_a_name_that_is_none_of_ours_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'push'"):
        ecr_async_pull.push  # noqa: B018


def test_importing_the_package_loads_no_module_of_it() -> None:
    result = subprocess.run([sys.executable, "-c", LISTING], capture_output=True, text=True, check=True)
    own = {name for name in result.stdout.split() if name.split(".")[0] == "ecr_async_pull"}
    assert own == {"ecr_async_pull"}
