"""Which hosts get a token, and of which region."""

from __future__ import annotations

import pytest

from ecr_async_pull.auth.ecr_host import parse_ecr_host


@pytest.mark.parametrize(
    ("host", "region", "is_fips", "is_dualstack"),
    [
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com", "us-east-1", False, False),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com:8443", "us-east-1", False, False),
        ("123456789012.DKR.ecr.US-east-1.amazonaws.com", "us-east-1", False, False),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1", True, False),
        ("123456789012.dkr-ecr.us-west-2.on.aws", "us-west-2", False, True),
        ("123456789012.dkr-ecr-fips.us-west-2.on.aws", "us-west-2", True, True),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1", False, False),
        ("123456789012.dkr.ecr.cn-north-1.on.amazonwebservices.com.cn", "cn-north-1", False, True),
        ("123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn", "cn-north-1", False, True),
        ("123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1", False, False),
        ("123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov", "us-iso-east-1", False, False),
        ("123456789012.dkr.ecr.us-isob-east-1.sc2s.sgov.gov", "us-isob-east-1", False, False),
        ("123456789012.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk", "eu-isoe-west-1", False, False),
        ("123456789012.dkr.ecr.us-isof-south-1.csp.hci.ic.gov", "us-isof-south-1", False, False),
    ],
)
def test_every_partitions_hosts_are_known(host: str, region: str, is_fips: bool, is_dualstack: bool) -> None:
    ecr = parse_ecr_host(host)
    assert ecr is not None
    assert (ecr.account, ecr.region) == ("123456789012", region)
    assert (ecr.is_fips, ecr.is_dualstack, ecr.is_public) == (is_fips, is_dualstack, False)


@pytest.mark.parametrize("host", ["public.ecr.aws", "ecr-public.aws.com", "public.ecr.aws:443"])
def test_ecr_public_is_known(host: str) -> None:
    ecr = parse_ecr_host(host)
    assert ecr is not None
    assert ecr.is_public


@pytest.mark.parametrize(
    "host",
    [
        "123456789012.dkr.ecr.us-east-1.amazonaws.com.fake.example.com",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com\n",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com:80@evil.example",
        "123456789012.dkr.ecr.us-east-1.evil.example",
        "123456789012.dkr.ecr.us-east-1.evil.amazonaws.com",
        "evil.123456789012.dkr.ecr.us-east-1.amazonaws.com",
        "12345678901.dkr.ecr.us-east-1.amazonaws.com",
        "123456789012xdkr.ecr.us-east-1.amazonaws.com",
        "123456789012.dkrxecr.us-east-1.amazonaws.com",
        "123456789012.dkr.ecr..amazonaws.com",
        "public.ecr.aws.example.com",
        "localhost:5000",
        "docker.io",
        "",
    ],
)
def test_look_alikes_are_no_ecr_hosts(host: str) -> None:
    assert parse_ecr_host(host) is None
