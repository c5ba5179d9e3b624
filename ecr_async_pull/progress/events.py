"""What a running pull reports. Everything below the command line speaks to this protocol alone.

All calls come from the event loop's thread, are cheap and never raise. Numbers are deltas, in bytes; a
delta is negative where bytes have to be fetched again.
"""

from __future__ import annotations

from typing import Protocol

from ..digest import Digest


class Progress(Protocol):
    def start(self, *, label: str) -> None:
        """A pull of this reference begins (its manifest is being asked for)."""

    def add_blob(self, *, digest: Digest, size_bytes: int, have_bytes: int) -> None:
        """A blob of this stored size is needed; `have_bytes` of it are here already (cache, resume)."""

    def fetched(self, *, digest: Digest, delta_bytes: int) -> None:
        """Stored bytes of this blob arrived (or, negative, were thrown away)."""

    def unpacked(self, *, digest: Digest, delta_bytes: int) -> None:
        """Stored bytes of this blob were hashed, inflated and written."""

    def blob_done(self, *, digest: Digest) -> None:
        """The blob is complete and verified."""

    def message(self, text: str) -> None:
        """Something that a person may want to know: a retry, a fallback, a file that is up to date."""

    def close(self) -> None:
        """Nothing more will come; idempotent."""


class NoProgress:
    """Shows nothing."""

    def start(self, *, label: str) -> None: ...
    def add_blob(self, *, digest: Digest, size_bytes: int, have_bytes: int) -> None: ...
    def fetched(self, *, digest: Digest, delta_bytes: int) -> None: ...
    def unpacked(self, *, digest: Digest, delta_bytes: int) -> None: ...
    def blob_done(self, *, digest: Digest) -> None: ...
    def message(self, text: str) -> None: ...
    def close(self) -> None: ...
