"""Which hosts are ECR registries, and what their names say. Pure: no I/O.

The forms are those of AWS's own credential helper and of the General Reference's endpoint tables; a
look-alike must never be sent a token, so the whole host is matched and the suffixes are a closed list.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SUFFIXES = (
    "amazonaws.com",
    "amazonaws.com.cn",
    "amazonaws.eu",
    "on.aws",
    "on.amazonwebservices.com.cn",
    "on.amazonwebservices.eu",
    "c2s.ic.gov",
    "sc2s.sgov.gov",
    "cloud.adc-e.uk",
    "csp.hci.ic.gov",
)
_PRIVATE = re.compile(
    r"(?P<account>[0-9]{12})\.dkr[.-]ecr(?P<fips>-fips)?\.(?P<region>[a-z0-9]+(?:-[a-z0-9]+)+)\."
    rf"(?P<suffix>{'|'.join(re.escape(suffix) for suffix in _SUFFIXES)})",
    re.ASCII | re.IGNORECASE,
)
_PUBLIC_HOSTS = ("public.ecr.aws", "ecr-public.aws.com")
_PUBLIC_REGION = "us-east-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class EcrRegistry:
    """What an ECR host's name says; `account` is empty for ECR Public, which has none in its host."""

    account: str
    region: str
    is_fips: bool = False
    is_dualstack: bool = False
    is_public: bool = False


def parse_ecr_host(registry: str) -> EcrRegistry | None:
    """What this host (a port is tolerated) is in ECR, None if it is none."""
    host = re.sub(r":[0-9]+\Z", "", registry).lower()
    if host in _PUBLIC_HOSTS:
        return EcrRegistry(
            account="", region=_PUBLIC_REGION, is_dualstack=host.endswith(".com"), is_public=True
        )
    match = _PRIVATE.fullmatch(host)
    if match is None:
        return None
    return EcrRegistry(
        account=match["account"],
        region=match["region"],
        is_fips=match["fips"] is not None,
        is_dualstack=match["suffix"].startswith("on."),
    )
