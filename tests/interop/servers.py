"""The rig's servers: docker-registry, nginx and moto, each with a configuration written for the run."""

from __future__ import annotations

import base64
import contextlib
import json
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import bcrypt
import trustme
from moto.server import ThreadedMotoServer

from tests.standin.zoo import FOREIGN_HOST

from .daemons import DEBIAN_PATH, answers, loopback_addresses, program, running
from .rig import API_HOST, REGION, REGISTRY_HOST, STORAGE_HOST, Rig

LOG_FORMAT = '$host $request_method $uri $status $body_bytes_sent $connection "$http_range" $http_user_agent'
TOKEN_CALL = {
    "Content-Type": "application/x-amz-json-1.1",
    "Authorization": f"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20240506/{REGION}/ecr/aws4_request",
    "X-Amz-Target": "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken",
}


@contextlib.contextmanager
def open_rig(directory: Path) -> Iterator[Rig]:
    """The three servers, running."""
    hosts = (REGISTRY_HOST, STORAGE_HOST, API_HOST, FOREIGN_HOST)
    names = dict(zip(hosts, loopback_addresses(len(hosts)), strict=True))
    hosts_file = directory / "hosts"
    hosts_file.write_text(
        "127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in names.items())
    )
    ca = trustme.CA()
    ca_file = directory / "ca.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    for name in names:
        certificate = ca.issue_cert(name)
        certificate.private_key_pem.write_to_path(str(directory / f"{name}.key"))
        for pem in certificate.cert_chain_pems:
            pem.write_to_path(str(directory / f"{name}.crt"), append=True)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    moto_url = f"http://{host}:{port}"
    login = _login(moto_url)
    docker_config = directory / "docker-config"
    docker_config.mkdir()
    entry = base64.b64encode(f"AWS:{login}".encode()).decode()
    (docker_config / "config.json").write_text(f'{{"auths": {{"{REGISTRY_HOST}": {{"auth": "{entry}"}}}}}}')
    root = directory / "registry"
    root.mkdir()
    rig = Rig(
        directory=directory,
        tree=root / "docker" / "registry" / "v2",
        hosts_file=hosts_file,
        ca_file=ca_file,
        docker_config=docker_config,
        moto_url=moto_url,
    )
    try:
        with (
            _registry(directory, root, names[REGISTRY_HOST], login),
            _nginx(directory, root, names, moto_url),
        ):
            yield rig
    finally:
        moto.stop()


def _login(moto_url: str) -> str:
    """The password that the token API hands out for user AWS."""
    call = urllib.request.Request(moto_url, data=b"{}", headers=TOKEN_CALL)
    with urllib.request.urlopen(call) as answer:
        token = json.load(answer)["authorizationData"][0]["authorizationToken"]
    user, _, password = base64.b64decode(token).decode().partition(":")
    assert user == "AWS"
    return password


@contextlib.contextmanager
def _registry(directory: Path, root: Path, address: str, password: str) -> Iterator[None]:
    htpasswd = directory / "htpasswd"
    htpasswd.write_bytes(b"AWS:" + bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)) + b"\n")
    config = directory / "registry.yml"
    config.write_text(f"""\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {root}, maxthreads: 100}}
  maintenance: {{uploadpurging: {{enabled: false}}}}
middleware:
  storage:
    - name: redirect
      options: {{baseurl: "https://{STORAGE_HOST}/"}}
auth:
  htpasswd: {{realm: ecr, path: {htpasswd}}}
http:
  addr: {address}:443
  secret: of-no-use
  tls: {{certificate: {directory}/{REGISTRY_HOST}.crt, key: {directory}/{REGISTRY_HOST}.key}}
""")
    command = [program("docker-registry", package="docker-registry"), "serve", str(config)]
    env = {"PATH": DEBIAN_PATH, "HOME": str(directory), "OTEL_TRACES_EXPORTER": "none"}
    with running(command, env=env, log=directory / "registry.log", is_ready=answers(address, 443)):
        yield


@contextlib.contextmanager
def _nginx(directory: Path, root: Path, names: Mapping[str, str], moto_url: str) -> Iterator[None]:
    error = "<Error><Code>InvalidArgument</Code><ArgumentName>Authorization</ArgumentName></Error>"
    refuse_authorization = f"if ($http_authorization) {{ return 400 '{error}'; }}"
    locations = {
        STORAGE_HOST: f"""\
    location /docker/registry/v2/blobs/ {{ {refuse_authorization} root {root}; }}
    location / {{ return 403; }}""",
        FOREIGN_HOST: f"    location / {{ {refuse_authorization} root {directory}/foreign; }}",
        API_HOST: f"""\
    location / {{ proxy_pass {moto_url}; proxy_set_header Host {urlsplit(moto_url).netloc}; }}""",
    }
    servers = "".join(
        f"""\
  server {{
    listen {names[host]}:443 ssl;
    server_name {host};
    ssl_certificate {directory}/{host}.crt;
    ssl_certificate_key {directory}/{host}.key;
{location}
  }}
"""
        for host, location in locations.items()
    )
    temporary = "".join(
        f"  {kind}_temp_path {directory}/nginx-{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = directory / "nginx.conf"
    config.write_text(f"""\
daemon off;
user root;
pid {directory}/nginx.pid;
worker_processes 2;
error_log {directory}/nginx-error.log warn;
events {{ worker_connections 1024; }}
http {{
  log_format witness '{LOG_FORMAT}';
  access_log {directory}/access.log witness;
{temporary}  default_type application/octet-stream;
  sendfile on;
  keepalive_timeout 65s;
  max_ranges 1;
{servers}}}
""")
    command = [program("nginx", package="nginx"), "-c", str(config), "-e", f"{directory}/nginx-error.log"]
    env = {"PATH": DEBIAN_PATH, "HOME": str(directory)}

    def is_ready() -> bool:
        return all(answers(names[host], 443)() for host in locations)

    with running(command, env=env, log=directory / "nginx.log", is_ready=is_ready):
        yield
