"""What the command line takes from the environment, and leaves in it."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from ecr_async_pull.cli import environment

CONTEXTS_OF_A_COMMAND = """
import ssl, sys
contexts, create = [], ssl.create_default_context
def noted(*arguments, **options):
    contexts.append(create(*arguments, **options))
    return contexts[-1]
ssl.create_default_context = noted
from ecr_async_pull.cli.main import main
code = main(sys.argv[1:])
print(code, *(one.cert_store_stats()["x509_ca"] for one in contexts))
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(path)
    return path


@pytest.mark.parametrize("before", [None, "/etc/elsewhere.pem"])
def test_while_importing_only_the_named_bundle_is_read(
    bundle: Path, before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    if before is not None:
        monkeypatch.setenv("SSL_CERT_FILE", before)
    with environment.default_bundle_unread():
        assert ssl.create_default_context().cert_store_stats()["x509_ca"] == 1
    assert os.environ.get("SSL_CERT_FILE") == before


def test_an_import_that_fails_leaves_nothing_behind(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with pytest.raises(ImportError), environment.default_bundle_unread():
        raise ImportError
    assert "SSL_CERT_FILE" not in os.environ


def test_without_a_named_bundle_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with environment.default_bundle_unread():
        assert "SSL_CERT_FILE" not in os.environ


@pytest.mark.parametrize("command", ["pull", "digest", "du"])
def test_commands_read_the_named_bundle_alone(bundle: Path, command: str) -> None:
    variables = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    ran = subprocess.run(
        [sys.executable, "-c", CONTEXTS_OF_A_COMMAND, command, "no reference"],
        env={**variables, "AWS_CA_BUNDLE": str(bundle)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == ["2", "1"]
