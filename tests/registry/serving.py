"""Debian's registry on loopback: open, or behind a password, a token server or a certificate of our own."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Literal, NamedTuple

from reconciler.image_registries import RegistryConfig
from tests.registry.images import Layout, program, skopeo_copy
from tests.registry.tokens import ISSUER, SERVICE, TokenServer, serving_tokens
from tests.unit.probe.servers import a_free_port
from tests.unit.source.https import basic, make_certificate
from tests.wait import wait_until

Face = Literal["open", "password", "certificate", "token"]
USER, PASSWORD = "puller", "swordfish-9"
HASH = "$2b$04$sWdgmDzosSb3uyh3QlriSe0yazY.5m2Pfud.lAUJ4gXzbdLZkQcYm"
"""Of the password, by bcrypt: the only form that the registry takes."""
SECONDS = 20
REQUEST = re.compile(
    rb'"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[\d.]+" (?P<status>\d+) (?P<bytes>\d+)'
)


class Served(NamedTuple):
    """A request that the registry answered."""

    method: str
    path: str
    status: int
    bytes: int


class Registry:
    """A registry that runs; its images are in `folder`."""

    def __init__(self, folder: Path, face: Face) -> None:
        self.folder = folder
        self.face = face
        self.host = f"{'localhost' if face == 'certificate' else '127.0.0.1'}:{a_free_port()}"
        self.tokens: TokenServer | None = None
        """Of the face `token`."""
        self._log = folder / "log"

    @property
    def credentials(self) -> Path:
        """A file with the login that the registry accepts."""
        return self.credentials_of(USER, PASSWORD)

    def credentials_of(self, user: str, password: str) -> Path:
        path = self.folder / f"auth-{user}.json"
        login = basic(user, password).removeprefix("Basic ")
        path.write_text(json.dumps({"auths": {self.host: {"auth": login}}}))
        path.chmod(0o600)
        return path

    @property
    def certificate(self) -> Path:
        return self.folder / "certificate.pem"

    def settings(self) -> RegistryConfig:
        """What the config says of it."""
        return RegistryConfig(
            name=self.host,
            credentials_file=str(self.credentials) if self.face in ("password", "token") else "",
            ca_file=str(self.certificate) if self.face == "certificate" else "",
            insecure=self.face != "certificate",
        )

    def push(self, layout: Layout, tag: str, repository: str, *options: str) -> str:
        """Push an image of a layout, by skopeo; returns the reference by digest."""
        digest_file = self.folder / "pushed"
        skopeo_copy(
            f"oci:{layout.folder}:{tag}", f"docker://{self.host}/{repository}:{tag}",
            "--dest-tls-verify=false", "--dest-authfile", str(self.credentials),
            "--digestfile", str(digest_file), *options,
        )  # fmt: skip
        return f"{self.host}/{repository}@{digest_file.read_text().strip()}"

    def put(self, repository: str, kind: str, manifest: bytes) -> str:
        """Push the bytes of a manifest or index; returns the reference by digest."""
        connection = HTTPConnection(self.host, timeout=SECONDS)
        connection.request(
            "PUT", f"/v2/{repository}/manifests/put", manifest, {"Content-Type": kind}
        )
        answer = connection.getresponse()
        assert answer.status == HTTPStatus.CREATED, answer.read()
        connection.close()
        return f"{self.host}/{repository}@{answer.headers['Docker-Content-Digest']}"

    def served(self) -> list[Served]:
        """What was asked since the registry began, except for what pushes did."""
        return [
            Served(
                found["method"].decode(),
                found["path"].decode(),
                int(found["status"]),
                int(found["bytes"]),
            )
            for found in REQUEST.finditer(self._log.read_bytes())
            if found["method"] == b"GET"
        ]

    def blob_bytes(self, since: int = 0) -> int:
        """Bytes of layers and configs that were sent, without the first `since` requests."""
        return sum(one.bytes for one in self.served()[since:] if "/blobs/" in one.path)

    def file_of(self, digest: str) -> Path:
        """Where the registry has a blob."""
        name = digest.removeprefix("sha256:")
        return self.folder / "store/docker/registry/v2/blobs/sha256" / name[:2] / name / "data"

    @contextmanager
    def running(self) -> Iterator[Registry]:
        with ExitStack() as stack:
            if self.face == "token":
                self.tokens = stack.enter_context(serving_tokens(self.folder, USER, PASSWORD))
            yield from self._running()

    def _running(self) -> Iterator[Registry]:
        config = self.folder / "config.yml"
        config.write_text(json.dumps(self._config()))  # JSON is YAML
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [program("docker-registry"), "serve", str(config)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            wait_until(self._listens, SECONDS)
            yield self
        finally:
            process.kill()
            process.wait(SECONDS)

    def _listens(self) -> bool:
        host, _, port = self.host.partition(":")
        try:
            socket.create_connection((host, int(port)), SECONDS).close()
        except OSError:
            return False
        return True

    def _config(self) -> dict[str, object]:
        http: dict[str, object] = {"addr": self.host, "secret": "of no use"}
        config: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "store")}},
            "http": http,
        }
        if self.face == "certificate":
            certificate = make_certificate(self.folder)
            http["tls"] = {
                "certificate": str(certificate),
                "key": str(certificate.with_name("key.pem")),
            }
        if self.face == "password":
            (self.folder / "htpasswd").write_text(f"{USER}:{HASH}\n")
            config["auth"] = {"htpasswd": {"realm": "fleet", "path": str(self.folder / "htpasswd")}}
        if self.tokens is not None:
            config["auth"] = {
                "token": {
                    "realm": self.tokens.realm, "service": SERVICE, "issuer": ISSUER,
                    "rootcertbundle": str(self.tokens.certificate),
                }
            }  # fmt: skip
        return config


@contextmanager
def serving_registry(folder: Path, face: Face = "open") -> Iterator[Registry]:
    """A registry whose files are in a new folder. Skips where its program is missing."""
    folder.mkdir(parents=True)
    with Registry(folder, face).running() as registry:
        yield registry
