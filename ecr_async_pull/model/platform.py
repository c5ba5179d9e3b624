"""Platforms and their choice (containerd/platforms, normalising and matching rules)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from ..errors import UsageError

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_OPERATING_SYSTEMS = {"macos": "darwin"}
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "arm64e": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "armv8l": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv5tel": ("arm", "v5"),
    "loongarch64": ("loong64", ""),
}
_DEFAULT_VARIANTS = {("amd64", "v1"), ("arm64", "8"), ("arm64", "v8"), ("arm64", "v8.0")}
_ARM_VARIANTS = ("v8", "v7", "v6", "v5")
_REFERENCE_TYPE = "vnd.docker.reference.type"


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """As a descriptor or config gives it; `variant`, `os_version` empty where absent."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Parse `os/architecture[/variant]` as people write it, normalised. Raises `UsageError`."""
        parts = text.split("/")
        if not 2 <= len(parts) <= 3 or not all(_PART.fullmatch(part) for part in parts):
            raise UsageError(
                f"invalid platform {text!r}; expected <os>/<architecture>[/<variant>], such as linux/arm64"
            )
        return cls(
            os=parts[0], architecture=parts[1], variant=parts[2] if len(parts) == 3 else ""
        ).normalised()

    @classmethod
    def of_host(cls) -> Platform:
        """`linux/<architecture of this machine>`: containers are Linux on other systems too."""
        return cls(os="linux", architecture=os.uname().machine).normalised()

    def normalised(self) -> Platform:
        """Lower-case, with aliases resolved and an architecture's default variant left out (arm: put in)."""
        system = self.os.lower()
        architecture, implied = _ARCHITECTURES.get(self.architecture.lower(), (self.architecture.lower(), ""))
        variant = self.variant.lower() or implied
        if architecture == "arm":
            variant = f"v{variant}" if variant.isdigit() else variant or "v7"
        elif (architecture, variant) in _DEFAULT_VARIANTS:
            variant = ""
        return replace(
            self, os=_OPERATING_SYSTEMS.get(system, system), architecture=architecture, variant=variant
        )

    def matches(self, wanted: Platform) -> bool:
        """Whether an image for this platform is one for `wanted`: equal but for spelling.

        `os.features` must be among the wanted ones; `os.version` counts on Windows alone, where both
        name one, by its major, minor and build numbers.
        """
        mine, theirs = self.normalised(), wanted.normalised()
        if (mine.os, mine.architecture, mine.variant) != (theirs.os, theirs.architecture, theirs.variant):
            return False
        if not mine.os or mine.os == "unknown" or mine.architecture in {"", "unknown"}:
            return False
        if not set(mine.os_features) - {"win32k"} <= set(theirs.os_features):
            return False
        if mine.os == "windows" and mine.os_version and theirs.os_version:
            return mine.os_version.split(".")[:3] == theirs.os_version.split(".")[:3]
        return True

    def fallbacks(self) -> tuple[Platform, ...]:
        """What may stand in where nothing matches, best first: older variants of 32-bit ARM, nothing else."""
        mine = self.normalised()
        if mine.architecture != "arm" or mine.variant not in _ARM_VARIANTS:
            return ()
        older = _ARM_VARIANTS[_ARM_VARIANTS.index(mine.variant) + 1 :]
        return tuple(replace(mine, variant=variant) for variant in older)

    def __str__(self) -> str:
        parts = [self.os or "unknown", self.architecture or "unknown", self.variant]
        return "/".join(part for part in parts if part)


class Listed(Protocol):
    """What `rank` needs to know of an index entry; `Descriptor` is one."""

    @property
    def platform(self) -> Platform | None: ...
    @property
    def annotations(self) -> Mapping[str, str]: ...


ListedT = TypeVar("ListedT", bound=Listed)


def is_attestation(entry: Listed) -> bool:
    """Whether an index entry describes another entry (BuildKit's attestations), and so is no image."""
    if entry.annotations.get(_REFERENCE_TYPE) == "attestation-manifest":
        return True
    return entry.platform is not None and (entry.platform.os, entry.platform.architecture) == (
        "unknown",
        "unknown",
    )


def rank(entries: Iterable[ListedT], wanted: Platform) -> tuple[ListedT, ...]:
    """The entries that may be the wanted image, best first, equals in their order.

    Exact matches come first (more matching features before fewer), then older variants of 32-bit ARM;
    entries that name no platform come last, and their config decides. Attestations never match.
    """
    candidates = [entry for entry in entries if not is_attestation(entry)]
    ranked: list[ListedT] = []
    for choice in (wanted, *wanted.fallbacks()):
        matching = [
            entry for entry in candidates if entry.platform is not None and entry.platform.matches(choice)
        ]
        ranked += sorted(
            matching, key=lambda entry: -len(entry.platform.os_features) if entry.platform else 0
        )
    return (*ranked, *(entry for entry in candidates if entry.platform is None))


def choose(entries: Iterable[ListedT], wanted: Platform) -> ListedT | None:
    """The first of `rank`, None if there is none."""
    return next(iter(rank(entries, wanted)), None)
