"""Skopeo at work for one image: confined, with settings of its own, and its failures in our words."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.children.confinement import Bounds
from reconciler.children.program import Ended
from reconciler.children.spare import ConfinedPrograms
from reconciler.errors import BuildFailed, BuildUnavailable, ConfigError, GuestErrorKind
from reconciler.image_registries import RegistryConfig
from reconciler.safe_text import clean
from reconciler.secret_file import place_of, read_secret

ANSWER_SECONDS = 90.0
"""For a manifest or config, with the questions for credentials and mirrors before it."""
MEMORY_BYTES = 8 << 30
"""Address space, of which Go reserves far more than it uses."""
CPU_SECONDS = 1800
SHOWN = 300
LONGEST_CREDENTIALS = 256 * 1024
POLICY = {"default": [{"type": "insecureAcceptAnything"}]}
"""Signatures are not asked for: an image is named by its digest."""
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")
KEPT_VARIABLES = (*_PROXIES, *map(str.upper, _PROXIES), "SSL_CERT_FILE", "SSL_CERT_DIR")
"""What it sees of the daemon's environment, which may hold secrets."""
# Layers stay as they are: their digests are known.
COPY = ("copy", "--quiet", "--dest-oci-accept-uncompressed-layers")
MESSAGE = re.compile(r'msg="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Symptom:
    """What skopeo says of one kind of failure, and what we do."""

    says: re.Pattern[str]
    kind: GuestErrorKind
    cause: str
    hint: str


def _symptom(says: str, kind: GuestErrorKind, cause: str, hint: str) -> Symptom:
    return Symptom(re.compile(says, re.IGNORECASE), kind, cause, hint)


SYMPTOMS = (
    _symptom(
        r"no space left on device|disk quota exceeded", "disk-full", "the disk is full",
        "free some space; it is tried again",
    ),
    _symptom(
        r"file too large|exceeded maximum allowed size", "limit",
        "the registry sends more than the manifest says",
        "is it the right registry? it is tried again",
    ),
    _symptom(
        r"Digest did not match|does not match expected|digest mismatch", "corrupt",
        "the registry sends other bytes than the digest names",
        "push the image again, or look at the mirror; it is tried again",
    ),
    _symptom(
        r"x509:|tls: |certificate", "refused", "the registry's certificate is not trusted",
        "set `ca_file` of the registry in [[registries]]",
    ),
    _symptom(
        r"server gave HTTP response to HTTPS client", "refused",
        "the registry speaks plain http",
        "give it a certificate; on a loopback address `insecure` in [[registries]] allows it",
    ),
    _symptom(
        r"unauthorized|authentication required|invalid username/password|\bdenied\b"
        r"|invalid status code from registry 40[13]|StatusCode: 40[13]|unable to retrieve auth token|requesting bearer token",
        "auth", "the registry refuses this host",
        "set `credentials_file` of the registry in [[registries]], or renew what it has",
    ),
    _symptom(
        r"toomanyrequests|too many requests", "refused", "the registry has enough of this host",
        "use a mirror, or an account with a higher limit; it is tried again",
    ),
    _symptom(
        r"manifest unknown|name unknown|blob unknown|not found|StatusCode: 404|repository name not known",
        "missing", "the registry does not have it", "push the image, or correct its name or digest",
    ),
    _symptom(
        r"unexpected EOF|connection reset|broken pipe|use of closed network connection", "network",
        "the registry broke off", "it is tried again",
    ),
    _symptom(
        r"connection refused|no such host|no route to host|network is unreachable|i/o timeout"
        r"|deadline exceeded|Client\.Timeout|server misbehaving|handshake timeout",
        "network", "the registry cannot be reached", "are its name, port and route right?",
    ),
    _symptom(
        r"can't talk to a V1|status code from registry 5\d\d|HTTP status: 5\d\d|StatusCode: 5\d\d",
        "network", "the registry is in trouble", "it is tried again",
    ),
    _symptom(
        r"redirects", "network", "the registry leads from one address to the next",
        "look at its configuration",
    ),
)  # fmt: skip


class Skopeo:
    """One registry's settings in a folder of its own, which must not exist yet."""

    def __init__(
        self, programs: ConfinedPrograms, folder: Path, settings: RegistryConfig | None
    ) -> None:
        self._programs = programs
        self._folder = folder
        self._settings = settings
        self._answers = 0

    async def prepare(self) -> None:
        """Write the settings down.

        Raises BuildUnavailable where skopeo is missing, or credentials cannot be used.
        """
        if shutil.which("skopeo") is None:
            raise BuildUnavailable(
                "skopeo is not installed", kind="missing-program", hint="apt-get install skopeo"
            )
        await asyncio.to_thread(self._prepare)

    async def show(
        self, reference: str, *, config: bool = False, seconds: float = ANSWER_SECONDS
    ) -> bytes:
        """A manifest or its config as the registry sends it; nothing is checked. Raises BuildUnavailable."""
        self._answers += 1
        answer = self._folder / f"answer-{self._answers}"
        argv = ["inspect", "--raw", *(["--config"] if config else []), *self._access(), reference]
        ended = await self._run(argv, seconds, file_bytes=16 << 20, stdout=answer)
        judge(ended)
        return await asyncio.to_thread(answer.read_bytes)

    async def copy(self, source: str, blobs: Path, *, seconds: float, file_bytes: int) -> None:
        """Have all blobs of an image in `blobs`/sha256 that are not there. Raises BuildUnavailable.

        Whether one is there is a matter of its name alone, so an empty file keeps it from being fetched.
        """
        argv = [
            *COPY, *self._access("--src-cert-dir"), "--dest-shared-blob-dir", str(blobs),
            source, f"oci:{self.unfinished}:image",
        ]  # fmt: skip
        judge(await self._run(argv, seconds, file_bytes=file_bytes))

    async def convert(self, archive: Path, *, seconds: float, file_bytes: int) -> Path:
        """The layout of the only image of a docker archive. Raises BuildFailed or BuildUnavailable."""
        argv = [*COPY, f"docker-archive:{archive}", f"oci:{self.unfinished}:image"]
        ended = await self._run(argv, seconds, file_bytes=file_bytes, network=False)
        try:
            judge(ended)
        except BuildUnavailable as error:
            if error.kind in ("disk-full", "limit"):
                raise
            said = message(ended.tail)
            raise BuildFailed(f"the archive is no image that skopeo can read: {said}") from error
        return self.unfinished

    @property
    def unfinished(self) -> Path:
        """Where blobs grow until they are whole."""
        return self._folder / "layout"

    def _access(self, certificates: str = "--cert-dir") -> list[str]:
        access = ["--authfile", str(self._folder / "auth.json")]
        if self._settings is not None and self._settings.credentials_file:
            access = ["--authfile", str(place_of(self._settings.credentials_file))]
        if self._settings is not None and self._settings.ca_file:
            access += [certificates, str(self._folder / "certificates")]
        return access

    async def _run(
        self,
        argv: Sequence[str],
        seconds: float,
        *,
        file_bytes: int,
        stdout: Path | None = None,
        network: bool = True,
    ) -> Ended:
        folder = self._folder
        settings = (
            "--policy", str(folder / "policy.json"),
            "--registries-conf", str(folder / "registries.conf"),
            "--registries.d", str(folder / "signatures"),
            "--tmpdir", str(folder / "tmp"),
        )  # fmt: skip
        home = str(folder / "home")
        return await self._programs.run(
            ("skopeo", *settings, *argv),
            seconds=seconds,
            bounds=Bounds(CPU_SECONDS, MEMORY_BYTES, file_bytes, network=network),
            env={
                **{name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ},
                "HOME": home, "XDG_RUNTIME_DIR": home, "TMPDIR": str(folder / "tmp"),
                # Its cache of what it saw belongs here, not below /var/lib.
                "XDG_DATA_HOME": home, "_CONTAINERS_ROOTLESS_UID": "65534",
            },
            cwd=folder,
            stdout=stdout,
        )  # fmt: skip

    def _prepare(self) -> None:
        for name in ("home", "tmp", "signatures", "certificates"):
            (self._folder / name).mkdir(parents=True)
        (self._folder / "policy.json").write_text(json.dumps(POLICY), encoding="utf-8")
        (self._folder / "auth.json").write_text("{}", encoding="utf-8")
        conf = registries_conf(self._settings) if self._settings else "\n"
        (self._folder / "registries.conf").write_text(conf, encoding="utf-8")
        if self._settings is None:
            return
        name = self._settings.name
        if self._settings.credentials_file:
            place = place_of(self._settings.credentials_file)
            try:
                read_secret(
                    f"credentials_file of {name}", place, 2, LONGEST_CREDENTIALS, private=True,
                    hint="write it with `skopeo login --authfile FILE`",
                )  # fmt: skip
            except ConfigError as error:
                raise BuildUnavailable(str(error), kind="auth", hint=error.hint) from error
        if self._settings.ca_file:
            try:
                shutil.copyfile(self._settings.ca_file, self._folder / "certificates/ca.crt")
            except OSError as error:
                raise BuildUnavailable(
                    f"ca_file of {name}: {self._settings.ca_file}: {error.strerror}",
                    hint="correct it in [[registries]]",
                ) from error


def registries_conf(settings: RegistryConfig) -> str:
    """The mirrors of a registry, in the form of `containers-registries.conf(5)`."""
    insecure = f"insecure = {'true' if settings.insecure else 'false'}"
    lines = [
        "[[registry]]",
        f'prefix = "{settings.name}"',
        f'location = "{settings.name}"',
        insecure,
    ]
    for mirror in settings.mirrors:
        lines += ["[[registry.mirror]]", f'location = "{mirror}"', insecure]
    return "\n".join([*lines, ""])


def judge(ended: Ended) -> None:
    """Raises BuildUnavailable for a failure, in our words where it is a known one."""
    if ended.status == 0:
        return
    if ended.status < 0:
        raise BuildUnavailable(
            f"skopeo was ended by signal {-ended.status}", kind="limit", hint="it is tried again"
        )
    said = message(ended.tail)
    for symptom in SYMPTOMS:
        if symptom.says.search(said):
            raise BuildUnavailable(f"{symptom.cause}: {said}", kind=symptom.kind, hint=symptom.hint)
    raise BuildUnavailable(f"skopeo: {said or f'status {ended.status}'}", kind="network")


def message(output: str) -> str:
    """The last thing that skopeo says, in one line, and without what every failure begins with."""
    found = MESSAGE.findall(output)
    text = found[-1].replace('\\"', '"') if found else output.strip().rpartition("\n")[2]
    # `Error parsing image name "docker://...": ` stands before the cause itself.
    text = re.sub(r'^(Error parsing image name "[^"]*"|initializing source [^ ]+): ', "", text)
    text = re.sub(r"sha256:([0-9a-f]{12})[0-9a-f]{52}", r"sha256:\1", text)
    return clean(text)[-SHOWN:]
