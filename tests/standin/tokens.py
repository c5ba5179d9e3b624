"""ECR's token API (JSON 1.1, AmazonEC2ContainerRegistry_V20150921) and the tokens that it gave out."""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
from dataclasses import dataclass
from typing import Literal

from . import faults
from .access_log import Request
from .delivery import Answer

_TARGET = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"
_CREDENTIAL = re.compile(r"Credential=([^/]+)/\d{8}/([^/]+)/ecr/aws4_request")
_CODES = {
    400: ("ThrottlingException", "Rate exceeded"),
    403: (
        "AccessDeniedException",
        "User is not authorized to perform: ecr:GetAuthorizationToken on resource: *",
    ),
    500: ("ServerException", "These errors are usually caused by a server-side issue."),
}


@dataclass(slots=True)
class Token:
    """`text` is what follows `Basic `: base64 of `AWS:<password>`. `expires_at_s` is Unix time."""

    text: str
    region: str
    expires_at_s: float


class Tokens:
    """Gives out tokens to who signs with the known access key, and tells good ones from others."""

    def __init__(self, *, account: str, access_key: str, token_life_s: float) -> None:
        self.account = account
        self.access_key = access_key
        self.token_life_s = token_life_s
        self._tokens: dict[str, Token] = {}

    def issue(self, *, region: str) -> Token:
        password = base64.b64encode(secrets.token_bytes(1200)).decode()
        text = base64.b64encode(f"AWS:{password}".encode()).decode()
        token = Token(text, region, time.time() + self.token_life_s)
        self._tokens[text] = token
        return token

    def expire(self, text: str) -> None:
        if text in self._tokens:
            self._tokens[text].expires_at_s = 0

    def expire_all(self) -> None:
        for token in self._tokens.values():
            token.expires_at_s = 0

    def check(self, text: str, region: str | None) -> Literal["valid", "expired", "invalid"]:
        """Tokens are good in the region that gave them; `region` None asks for none."""
        token = self._tokens.get(text)
        if token is None or (region is not None and region != token.region):
            return "invalid"
        return "valid" if time.time() < token.expires_at_s else "expired"

    def answer(self, entry: Request, actions: list[faults.Action]) -> Answer:
        for action in actions:
            if isinstance(action, faults.Status):
                answer = _error(action.status, action.code, action.message)
                if action.retry_after is not None:
                    answer.headers["Retry-After"] = action.retry_after
                return answer
        if entry.headers.get("x-amz-target") != _TARGET:
            return _error(400, "UnknownOperationException", "")
        signed = _CREDENTIAL.search(entry.headers.get("authorization", ""))
        if signed is None:
            return _error(
                400, "MissingAuthenticationTokenException", "Request is missing Authentication Token"
            )
        if signed[1] != self.access_key:
            message = "The security token included in the request is invalid."
            return _error(400, "UnrecognizedClientException", message)
        token = self.issue(region=signed[2])
        data = {
            "authorizationToken": token.text,
            "expiresAt": token.expires_at_s,
            "proxyEndpoint": f"https://{self.account}.dkr.ecr.{token.region}.amazonaws.com",
        }
        return _json(200, {"authorizationData": [data]})


def _error(status: int, code: str | None = None, message: str | None = None) -> Answer:
    usual_code, usual_message = _CODES.get(status, ("ServerException", "An error occurred."))
    return _json(status, {"__type": code or usual_code, "message": message or usual_message})


def _json(status: int, document: object) -> Answer:
    headers = {"Content-Type": "application/x-amz-json-1.1"}
    return Answer(status=status, headers=headers, body=json.dumps(document).encode())
