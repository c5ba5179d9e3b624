"""Pull container images out of AWS ECR without Docker.

The names in `__all__` are the public API. Each is imported when it is first used: importing the package
itself loads nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .archive.report import VerifyReport
    from .archive.verify import verify
    from .digest import Digest
    from .errors import (
        AuthError,
        IntegrityError,
        NotFoundError,
        PlatformError,
        PullError,
        RegistryError,
        StorageError,
        TransientError,
        UnsupportedImageError,
        UsageError,
    )
    from .model.platform import Platform
    from .model.reference import ImageReference
    from .orchestrator.digests import current_digests
    from .orchestrator.estimate import Estimate, estimate
    from .orchestrator.pull import pull
    from .orchestrator.request import (
        ImageFacts,
        ImageRequest,
        Outcome,
        OutputRequest,
        OutputResult,
        PullReport,
    )
    from .progress.events import NoProgress, Progress
    from .settings import (
        ArchiveFormat,
        ConnectionSettings,
        PullPolicy,
        PullSettings,
        TransferSettings,
        Verify,
    )

__version__ = "0.1.0"

__all__ = [
    "ArchiveFormat",
    "AuthError",
    "ConnectionSettings",
    "Digest",
    "Estimate",
    "ImageFacts",
    "ImageReference",
    "ImageRequest",
    "IntegrityError",
    "NoProgress",
    "NotFoundError",
    "Outcome",
    "OutputRequest",
    "OutputResult",
    "Platform",
    "PlatformError",
    "Progress",
    "PullError",
    "PullPolicy",
    "PullReport",
    "PullSettings",
    "RegistryError",
    "StorageError",
    "TransferSettings",
    "TransientError",
    "UnsupportedImageError",
    "UsageError",
    "Verify",
    "VerifyReport",
    "__version__",
    "current_digests",
    "estimate",
    "pull",
    "verify",
]

_HOMES = {
    "archive.report": ("VerifyReport",),
    "archive.verify": ("verify",),
    "digest": ("Digest",),
    "errors": (
        "AuthError",
        "IntegrityError",
        "NotFoundError",
        "PlatformError",
        "PullError",
        "RegistryError",
        "StorageError",
        "TransientError",
        "UnsupportedImageError",
        "UsageError",
    ),
    "model.platform": ("Platform",),
    "model.reference": ("ImageReference",),
    "orchestrator.digests": ("current_digests",),
    "orchestrator.estimate": ("Estimate", "estimate"),
    "orchestrator.pull": ("pull",),
    "orchestrator.request": (
        "ImageFacts",
        "ImageRequest",
        "Outcome",
        "OutputRequest",
        "OutputResult",
        "PullReport",
    ),
    "progress.events": ("NoProgress", "Progress"),
    "settings": (
        "ArchiveFormat",
        "ConnectionSettings",
        "PullPolicy",
        "PullSettings",
        "TransferSettings",
        "Verify",
    ),
}


def __getattr__(name: str) -> object:
    """Import the home of a public name at its first use."""
    for home, names in _HOMES.items():
        if name in names:
            from importlib import import_module

            value: object = getattr(import_module(f".{home}", __name__), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
