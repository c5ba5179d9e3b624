"""A stand-in for each module, and a directory to pull into for each test."""

from __future__ import annotations

from tests.pulling import running, site

__all__ = ["running", "site"]
