"""What the command line takes from the environment, and leaves in it."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
import trustme

from ecr_async_pull.cli import environment


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
