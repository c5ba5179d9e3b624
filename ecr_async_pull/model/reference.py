"""Image references (distribution/reference grammar; distribution-spec, "Pulling manifests")."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..digest import Digest
from ..errors import IntegrityError, ReferenceError  # noqa: A004

_HOST = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])"
    r"(?::[0-9]{1,5})?"
)
_REPOSITORY = re.compile(
    r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*"
)
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")
_REPOSITORY_MAX_LENGTH = 255
_DOCKER_HUB = "docker.io"
_FORM = "<account>.dkr.ecr.<region>.amazonaws.com/<repository>[:<tag>][@sha256:<hex>]"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReference:
    """`registry/repository[:tag][@digest]`; at least one of `tag` and `digest` is set."""

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        """Parse a reference as people write it; a missing tag means `latest`.

        The first part is the registry if it has a `.` or `:` or is `localhost`; otherwise Docker Hub is
        meant, as engines understand it. Raises `ReferenceError`.
        """
        rest, at, digest_text = text.partition("@")
        digest = None
        if at:
            try:
                digest = Digest.parse(digest_text)
            except IntegrityError as error:
                raise ReferenceError(f"invalid reference {text!r}: {error}", text=text) from error
        if "://" in rest:
            raise ReferenceError(
                f"invalid reference {text!r}: leave out the {rest.split('://')[0]}:// in front;"
                f" expected {_FORM}",
                text=text,
            )
        registry, repository = cls._split_registry(rest)
        last = repository.rsplit("/", 1)[-1]
        tag: str | None = None
        if ":" in last:
            repository, _, tag = repository.rpartition(":")
        if registry == _DOCKER_HUB and repository and "/" not in repository:
            if _IDENTIFIER.fullmatch(repository):
                raise ReferenceError(
                    f"invalid reference {text!r}: 64 hex digits are an image ID, which no registry knows;"
                    f" expected {_FORM}",
                    text=text,
                )
            if ".dkr" in repository:
                raise ReferenceError(
                    f"invalid reference {text!r}: it names a registry but no repository; expected {_FORM}",
                    text=text,
                )
            repository = f"library/{repository}"
        if not _HOST.fullmatch(registry) or not cls._is_port_valid(registry):
            raise ReferenceError(
                f"invalid reference {text!r}: {registry!r} is no host name; expected {_FORM}", text=text
            )
        if not repository or not _REPOSITORY.fullmatch(repository):
            advice = f"expected {_FORM}"
            if _REPOSITORY.fullmatch(repository.lower()):
                advice = f"repository names are lower case: try {repository.lower()!r}"
            raise ReferenceError(
                f"invalid reference {text!r}: {repository!r} is no repository name; {advice}", text=text
            )
        if len(repository) > _REPOSITORY_MAX_LENGTH:
            raise ReferenceError(
                f"invalid reference {text[:80]!r}...: a repository name has at most"
                f" {_REPOSITORY_MAX_LENGTH} characters",
                text=text,
            )
        if tag is not None and not _TAG.fullmatch(tag):
            raise ReferenceError(
                f"invalid reference {text!r}: {tag!r} is no tag; a tag has 1 to 128 letters, digits,"
                " '_', '.', '-' and begins with none of '.', '-'",
                text=text,
            )
        if tag is None and digest is None:
            tag = "latest"
        return cls(registry=registry, repository=repository, tag=tag, digest=digest)

    @staticmethod
    def _split_registry(rest: str) -> tuple[str, str]:
        first, slash, remainder = rest.partition("/")
        if slash and ("." in first or ":" in first or first == "localhost"):
            return _DOCKER_HUB if first == "index.docker.io" else first, remainder
        return _DOCKER_HUB, rest

    @staticmethod
    def _is_port_valid(registry: str) -> bool:
        _, colon, port = registry.rpartition(":")
        return not colon or registry.endswith("]") or 0 < int(port) <= 65535

    @property
    def name(self) -> str:
        """`registry/repository`, in full."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar_name(self) -> str:
        """The name as engines show it: without `docker.io/` and, then, without `library/`."""
        if self.registry != _DOCKER_HUB:
            return self.name
        return self.repository.removeprefix("library/")

    @property
    def host(self) -> str:
        """The registry without its port."""
        return self.registry.rsplit(":", 1)[0] if not self.registry.endswith("]") else self.registry

    @property
    def default_stem(self) -> str:
        """The default file name without suffix: `<last part>-<tag>`, without a tag `<last part>-<hex>`."""
        last = self.repository.rsplit("/", 1)[-1]
        if self.tag is not None:
            return f"{last}-{self.tag}"
        assert self.digest is not None
        return f"{last}-{self.digest.hex}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        digest = f"@{self.digest}" if self.digest is not None else ""
        return f"{self.name}{tag}{digest}"
