"""The registry's own answers: `/v2/`, with ECR's authentication and its deviations from the specification."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from . import faults
from .access_log import Request
from .delivery import Answer
from .images import BuiltImage, sha256
from .storage import Storage
from .tokens import Tokens

Authentication = Literal["ecr", "bearer", "anonymous"]

_ROUTE = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs|tags)/(?P<what>[^/]+)")
_CODES = {
    400: ("DENIED", "Your Authorization Token is invalid."),
    403: ("DENIED", "Your authorization token has expired. Reauthenticate and try again."),
    404: ("MANIFEST_UNKNOWN", "Requested image not found"),
    405: ("UNSUPPORTED", "The operation is unsupported."),
    429: ("TOOMANYREQUESTS", "Rate exceeded"),
}


@dataclass(slots=True)
class _Repository:
    tags: dict[str, str] = field(default_factory=dict)
    manifests: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    blobs: set[str] = field(default_factory=set)


class Registry:
    """Repositories, their manifests and blobs. `storage_host_for` says where a request's blobs are.

    `authentication`: "ecr" is Basic `AWS:<token>`, "bearer" what ECR Public and Docker Hub do.
    """

    def __init__(
        self,
        *,
        account: str,
        authentication: Authentication,
        tokens: Tokens,
        storage: Storage,
        storage_host_for: Callable[[str], str],
    ) -> None:
        self._account = account
        self._authentication = authentication
        self._tokens = tokens
        self._storage = storage
        self._storage_host_for = storage_host_for
        self._repositories: dict[str, _Repository] = {}

    def add(self, repository: str, tag: str | None, image: BuiltImage) -> str:
        """Store `image` and all that it refers to; returns its digest."""
        home = self._repositories.setdefault(repository, _Repository())
        for child in image.children:
            self.add(repository, None, child)
        if image.config_raw:
            self.add_blob(repository, sha256(image.config_raw), image.config_raw)
        for layer in image.layers:
            if layer.is_served:
                home.blobs.add(layer.digest)
                self._storage.add(layer.digest, layer.data)
            else:
                self._storage.add_foreign(layer.digest, layer.data)
        return self.add_manifest(repository, tag, image.manifest_raw, image.media_type)

    def add_manifest(self, repository: str, tag: str | None, raw: bytes, media_type: str) -> str:
        """Any bytes as a manifest; with a tag that existed the tag moves."""
        home = self._repositories.setdefault(repository, _Repository())
        digest = sha256(raw)
        home.manifests[digest] = (raw, media_type)
        if tag is not None:
            home.tags[tag] = digest
        return digest

    def add_blob(self, repository: str, digest: str, data: bytes) -> None:
        """Bytes under this digest, true or not."""
        self._repositories.setdefault(repository, _Repository()).blobs.add(digest)
        self._storage.add(digest, data)

    def digest_of(self, path: str) -> str | None:
        route = _ROUTE.fullmatch(path)
        if route is None:
            return None
        if ":" in route["what"]:
            return route["what"]
        home = self._repositories.get(route["name"])
        return home.tags.get(route["what"]) if home else None

    def answer(self, entry: Request, actions: list[faults.Action]) -> Answer:
        for action in actions:
            if isinstance(action, faults.Status):
                return self._failure(action)
        if entry.path == "/token/":
            return self._bearer_token(entry)
        refusal = self._refusal(entry, actions)
        if refusal is not None:
            return refusal
        if entry.path in ("/v2", "/v2/"):
            return Answer(headers={"Content-Type": "application/json"}, body=b"{}")
        route = _ROUTE.fullmatch(entry.path)
        if route is None or entry.method not in ("GET", "HEAD"):
            return _error(405)
        home = self._repositories.get(route["name"])
        if home is None:
            message = (
                f"The repository with name '{route['name']}' does not exist in the registry with id "
                f"'{self._account}'"
            )
            return _error(404, "NAME_UNKNOWN", message)
        match route["kind"]:
            case "manifests":
                return self._manifest(entry, home, route["what"])
            case "blobs":
                return self._blob(entry, home, route["what"])
            case _:
                tags = json.dumps({"name": route["name"], "tags": sorted(home.tags)}).encode()
                return Answer(headers={"Content-Type": "text/plain; charset=utf-8"}, body=tags)

    def _manifest(self, entry: Request, home: _Repository, what: str) -> Answer:
        digest = what if ":" in what else home.tags.get(what, "")
        if digest not in home.manifests:
            return _error(404)
        raw, media_type = home.manifests[digest]
        headers = {"Content-Type": media_type}
        if entry.method == "HEAD":  # as ECR does: a GET answers without it
            headers["Docker-Content-Digest"] = digest
        return Answer(headers=headers, body=raw)

    def _blob(self, entry: Request, home: _Repository, digest: str) -> Answer:
        size_bytes = self._storage.size_of(digest)
        if digest not in home.blobs or size_bytes is None:
            return _error(404, "BLOB_UNKNOWN", f"Layer with digest '{digest}' does not exist")
        if entry.method == "HEAD":
            headers = {"Docker-Content-Digest": digest, "Content-Type": "application/octet-stream"}
            return Answer(headers=headers, head_bytes=size_bytes)
        region = region_of(entry.host) or "us-east-1"
        location = f"https://{self._storage_host_for(entry.host)}{self._storage.path_of(digest, region)}"
        return Answer(status=307, headers={"Location": location})

    def _refusal(self, entry: Request, actions: list[faults.Action]) -> Answer | None:
        if self._authentication == "anonymous":
            return None
        scheme, _, credential = entry.headers.get("authorization", "").partition(" ")
        wanted = "bearer" if self._authentication == "bearer" else "basic"
        if not credential:
            return self._challenge(entry)
        if any(isinstance(action, faults.ExpireToken) for action in actions):
            self._tokens.expire(credential)
        verdict = (
            self._tokens.check(credential, region_of(entry.host)) if scheme.lower() == wanted else "invalid"
        )
        if verdict == "expired" and wanted == "basic":
            return _error(403)
        return None if verdict == "valid" else _error(400)

    def _challenge(self, entry: Request) -> Answer:
        if self._authentication == "bearer":
            challenge = f'Bearer realm="https://{entry.host}/token/",service="{entry.host}",scope="aws"'
        else:
            challenge = f'Basic realm="https://{entry.host}/",service="ecr.amazonaws.com"'
        headers = {"WWW-Authenticate": challenge, "Content-Type": "text/plain; charset=utf-8"}
        return Answer(status=401, headers=headers, body=b"Not Authorized\n")

    def _bearer_token(self, entry: Request) -> Answer:
        """Anyone gets one; who sends Basic must be known."""
        basic = entry.headers.get("authorization", "").partition(" ")[2]
        if basic and self._tokens.check(basic, None) != "valid":
            return self._challenge(entry)
        body = json.dumps({"token": self._tokens.issue(region="us-east-1").text}).encode()
        return Answer(headers={"Content-Type": "application/json"}, body=body)

    def _failure(self, fault: faults.Status) -> Answer:
        answer = _error(fault.status, fault.code, fault.message)
        if fault.body is not None:
            answer.body = fault.body
        if fault.retry_after is not None:
            answer.headers["Retry-After"] = fault.retry_after
        return answer


def region_of(host: str) -> str | None:
    """The region that an ECR host name carries."""
    match = re.match(r"[^.]+\.dkr[.-]ecr(?:-fips)?\.([^.]+)\.", host)
    return match[1] if match else None


def _error(status: int, code: str | None = None, message: str | None = None) -> Answer:
    usual_code, usual_message = _CODES.get(status, ("UNKNOWN", "An error occurred."))
    errors = {"errors": [{"code": code or usual_code, "message": message or usual_message}]}
    headers = {"Content-Type": "application/json; charset=utf-8"}
    return Answer(status=status, headers=headers, body=json.dumps(errors).encode())
