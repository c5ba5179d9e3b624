"""Other ways to the same blobs: connections with a cap, connections some of which crawl, a distant registry.

Each is a hosts file: the same names and certificates at other loopback addresses.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.interop.daemons import DEBIAN_PATH, answers, loopback_addresses, program, running
from tests.interop.rig import REGISTRY_HOST, STORAGE_HOST, Rig

CAP_BYTES_S = 40_000_000
CRAWL_BYTES_S = CAP_BYTES_S // 20
ROUND_TRIP_S = 0.05
_RELAY = Path(__file__).with_name("relay.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Hosts files. `open`: no cap. `capped`: 40 MB/s a connection. `uneven`: the same, but every eighth
    connection has a twentieth. `distant`: 50 ms away; `distant_log` tells when each request was served there.
    """

    open: Path
    capped: Path
    uneven: Path
    distant: Path
    distant_log: Path

    def watch_depth(self) -> Callable[[], int]:
        """Begin to count how many round trips follow one another; the returned function ends it."""
        start = self.distant_log.stat().st_size

        def count() -> int:
            with self.distant_log.open() as lines:
                lines.seek(start)
                spans = [tuple(map(float, line.split()[:2])) for line in lines]
            return depth([(end - took, end) for end, took in spans])

        return count


def depth(served: Sequence[tuple[float, float]]) -> int:
    """The longest chain of requests, (first byte in, last byte out) at the server, a round trip apart each.

    What waits for an answer can't ask again sooner; so it is never less than what depends on one another.
    """
    count, ended_s = 0, float("-inf")
    for start_s, end_s in sorted(served, key=lambda span: span[1]):
        if start_s >= ended_s + 0.9 * ROUND_TRIP_S:
            count, ended_s = count + 1, end_s
    return count


@contextlib.contextmanager
def open_links(rig: Rig, directory: Path) -> Iterator[Links]:
    """One nginx for all of them, and a relay that holds back every byte on its way."""
    entries = [line.split() for line in rig.hosts_file.read_text().splitlines()]
    names = {host: address for address, host in entries if host != "localhost"}
    capped, uneven, front_storage, front_registry, far_storage, far_registry = loopback_addresses(6)
    log = directory / "distant.log"
    config = directory / "links.conf"
    storage = f"root {rig.tree.parents[2]};"
    config.write_text(
        _config(
            directory,
            f"""\
  map $connection $rate {{
    default {CAP_BYTES_S};
    "~{_one_in_eight()}" {CRAWL_BYTES_S};
  }}
  upstream registry {{ server {names[REGISTRY_HOST]}:443; keepalive 64; }}
"""
            + _server(rig, STORAGE_HOST, capped, f"location / {{ {storage} limit_rate {CAP_BYTES_S}; }}")
            + _server(rig, STORAGE_HOST, uneven, f"location / {{ {storage} limit_rate $rate; }}")
            + _server(rig, STORAGE_HOST, front_storage, f"access_log {log} spans; location / {{ {storage} }}")
            + _server(
                rig,
                REGISTRY_HOST,
                front_registry,
                f"""access_log {log} spans; location / {{
      proxy_pass https://registry; proxy_http_version 1.1; proxy_redirect off;
      proxy_set_header Host $host; proxy_set_header Connection ""; }}""",
            ),
        )
    )

    def hosts(name: str, changed: dict[str, str]) -> Path:
        path = directory / f"hosts-{name}"
        lines = [f"{address} {host}\n" for host, address in {**names, **changed}.items()]
        path.write_text("127.0.0.1 localhost\n" + "".join(lines))
        return path

    def are_ready() -> bool:
        return all(answers(each, 443)() for each in (capped, uneven, front_storage, front_registry))

    env = {"PATH": DEBIAN_PATH, "HOME": str(directory)}
    nginx = [program("nginx", package="nginx"), "-c", str(config), "-e", f"{directory}/links-error.log"]
    pairs = [f"{far_storage}={front_storage}", f"{far_registry}={front_registry}"]
    relay = [sys.executable, str(_RELAY), str(ROUND_TRIP_S), *pairs]
    with (
        running(nginx, env=env, log=directory / "links.log", is_ready=are_ready),
        running(relay, env=env, log=directory / "relay.log", is_ready=answers(far_registry, 443)),
    ):
        yield Links(
            open=rig.hosts_file,
            capped=hosts("capped", {STORAGE_HOST: capped}),
            uneven=hosts("uneven", {STORAGE_HOST: uneven}),
            distant=hosts("distant", {STORAGE_HOST: far_storage, REGISTRY_HOST: far_registry}),
            distant_log=log,
        )


def _one_in_eight() -> str:
    """Matches decimal numbers divisible by eight: the last three digits decide."""
    return f"(?:{'|'.join(f'{each:03}' for each in range(0, 1000, 8))}|^(?:8|{_under_hundred()}))$"


def _under_hundred() -> str:
    return "|".join(str(each) for each in range(16, 100, 8))


def _server(rig: Rig, host: str, address: str, content: str) -> str:
    return f"""\
  server {{
    listen {address}:443 ssl;
    server_name {host};
    ssl_certificate {rig.directory}/{host}.crt;
    ssl_certificate_key {rig.directory}/{host}.key;
    {content}
  }}
"""


def _config(directory: Path, content: str) -> str:
    temporary = "".join(
        f"  {kind}_temp_path {directory}/links-{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""\
daemon off;
user root;
pid {directory}/links.pid;
worker_processes 2;
error_log {directory}/links-error.log warn;
events {{ worker_connections 1024; }}
http {{
  log_format spans '$msec $request_time $host $request_method $uri $status $connection';
  access_log off;
{temporary}  default_type application/octet-stream;
  sendfile on;
  keepalive_timeout 65s;
  keepalive_requests 100000;
  max_ranges 1;
  ssl_protocols TLSv1.2 TLSv1.3;
{content}}}
"""
