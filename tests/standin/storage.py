"""The "S3" behind the registry: presigned links, single ranges, XML errors, as ECR's bucket answers."""

from __future__ import annotations

import calendar
import hashlib
import hmac
import secrets
import time
import uuid
from pathlib import Path
from urllib.parse import parse_qs, quote

from . import faults
from .access_log import Request, parse_range
from .delivery import Answer, open_body

_CODES = {
    400: ("BadRequest", "An error occurred when parsing the HTTP request."),
    403: ("AccessDenied", "Access Denied"),
    404: ("NoSuchKey", "The specified key does not exist."),
    408: (
        "RequestTimeout",
        "Your socket connection to the server was not read from within the timeout period.",
    ),
    429: ("TooManyRequests", "Please reduce your request rate."),
    500: ("InternalError", "We encountered an internal error. Please try again."),
    503: ("SlowDown", "Please reduce your request rate."),
}


class Storage:
    """Blobs by key. The key says nothing about the content, as ECR's do not."""

    def __init__(self, *, account: str, link_life_s: int) -> None:
        self.account = account
        self.link_life_s = link_life_s
        self._secret = secrets.token_bytes(32)
        self._blobs: dict[str, tuple[str, memoryview]] = {}
        self._keys: dict[str, str] = {}
        self._expired: dict[str, faults.ExpireLink] = {}
        self._issued = 0

    def add(self, digest: str, data: bytes | Path) -> None:
        if digest not in self._keys:
            key = f"/{digest[7:11]}-{self.account}-{uuid.uuid5(uuid.NAMESPACE_OID, digest)}/" + str(
                uuid.uuid5(uuid.NAMESPACE_URL, digest)
            )
            self._keys[digest] = key
            self._blobs[key] = (digest, open_body(data))

    def add_foreign(self, digest: str, data: bytes | Path) -> None:
        """A blob that is served without a signature as `/layers/<digest>`."""
        self._blobs[f"/layers/{digest}"] = (digest, open_body(data))

    def size_of(self, digest: str) -> int | None:
        return len(self._blobs[self._keys[digest]][1]) if digest in self._keys else None

    def path_of(self, digest: str, region: str) -> str:
        """A new link's path and query: signed over its exact bytes."""
        self._issued += 1
        now = time.gmtime()
        scope = f"ASIASTANDIN{self._issued:09}/{time.strftime('%Y%m%d', now)}/{region}/s3/aws4_request"
        session = f"IQoJb3JpZ2luX2VjE/{uuid.uuid5(uuid.NAMESPACE_DNS, scope)}+a:b/c=="
        unsigned = (
            f"{self._keys[digest]}?X-Amz-Security-Token={quote(session, safe='')}"
            "&X-Amz-Algorithm=AWS4-HMAC-SHA256"
            f"&X-Amz-Date={time.strftime('%Y%m%dT%H%M%SZ', now)}&X-Amz-SignedHeaders=host"
            f"&X-Amz-Expires={self.link_life_s}&X-Amz-Credential={quote(scope, safe='')}"
        )
        return f"{unsigned}&X-Amz-Signature={self._sign(unsigned)}"

    def digest_of(self, path: str) -> str | None:
        blob = self._blobs.get(path)
        return blob[0] if blob else None

    def answer(self, entry: Request, raw_path: str, actions: list[faults.Action]) -> Answer:
        """`raw_path`: path and query, byte for byte as they came."""
        for action in actions:
            if isinstance(action, faults.Status):
                return status_answer(action)
        refusal = None if entry.path.startswith("/layers/") else self._refusal(entry, raw_path, actions)
        if refusal is not None:
            return refusal
        if entry.path not in self._blobs:
            return _error(404)
        digest, blob = self._blobs[entry.path]
        headers = {
            "Accept-Ranges": "bytes",
            "ETag": f'"{digest[7:39]}"',
            "Content-Type": "binary/octet-stream",
        }
        expected = entry.headers.get("if-match")
        if expected is not None and expected != headers["ETag"]:
            return _error(
                412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold"
            )
        if any(isinstance(action, faults.IgnoreRange) for action in actions):
            return Answer(headers=headers, body=blob)
        return _ranged(entry, blob, headers, actions)

    def _refusal(self, entry: Request, raw_path: str, actions: list[faults.Action]) -> Answer | None:
        if entry.has_authorization:
            message = (
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query "
                "string parameter or the Authorization header should be specified"
            )
            return _error(400, "InvalidArgument", message)
        unsigned, mark, signature = raw_path.partition("&X-Amz-Signature=")
        if not mark:
            return _error(403)
        if (
            not hmac.compare_digest(signature.encode(), self._sign(unsigned).encode())
            or entry.method != "GET"
        ):
            message = "The request signature we calculated does not match the signature you provided."
            return _error(403, "SignatureDoesNotMatch", message)
        for action in actions:
            if isinstance(action, faults.ExpireLink):
                self._expired.setdefault(signature, action)
        expired = self._expired.get(signature)
        if expired is not None and expired.by_session:
            return _error(400, "ExpiredToken", "The provided token has expired.")
        if expired is not None or _age_s(unsigned) >= self.link_life_s:
            return _error(403, "AccessDenied", "Request has expired")
        return None

    def _sign(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()


def _age_s(unsigned: str) -> float:
    date = parse_qs(unsigned.partition("?")[2])["X-Amz-Date"][0]
    return time.time() - calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ"))


def _ranged(
    entry: Request, blob: memoryview, headers: dict[str, str], actions: list[faults.Action]
) -> Answer:
    wanted = parse_range(entry.headers.get("range"))
    if wanted is None:
        return Answer(headers=headers, body=blob)
    first, last = wanted
    if first < 0:
        first = max(0, len(blob) + first)
    if first >= len(blob):
        answer = _error(416, "InvalidRange", "The requested range is not satisfiable")
        answer.headers["Content-Range"] = f"bytes */{len(blob)}"
        return answer
    end = len(blob) if last is None else min(len(blob), last + 1)
    shift = sum(each.shift for each in actions if isinstance(each, faults.WrongContentRange))
    headers["Content-Range"] = f"bytes {first + shift}-{end - 1 + shift}/{len(blob)}"
    return Answer(status=206, headers=headers, body=blob[first:end], body_start=first)


def status_answer(fault: faults.Status) -> Answer:
    answer = _error(fault.status, fault.code, fault.message)
    if fault.body is not None:
        answer.body = fault.body
    if fault.retry_after is not None:
        answer.headers["Retry-After"] = fault.retry_after
    return answer


def _error(status: int, code: str | None = None, message: str | None = None) -> Answer:
    usual_code, usual_message = _CODES.get(status, ("Error", "An error occurred."))
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code or usual_code}</Code><Message>{message or usual_message}</Message>"
        "<RequestId>4442587FB7D0A2F9</RequestId><HostId>aGVsbG8=</HostId></Error>"
    )
    return Answer(status=status, headers={"Content-Type": "application/xml"}, body=body.encode())
