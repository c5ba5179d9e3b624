"""Platforms and their choice (containerd/platforms, normalising and matching rules)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """As a descriptor or config gives it; `variant`, `os_version` empty where absent."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()
