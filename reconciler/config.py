"""The daemon's config: read from TOML to a frozen value; errors name file and key (exit 78)."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails

from reconciler import git_url
from reconciler.config_fields import HostPath, HttpUrl, Port, Seconds, Secret, Section, resolved
from reconciler.errors import ConfigError, did_you_mean
from reconciler.hypervisors import DEFAULT, Hypervisor, HypervisorTables
from reconciler.image_registries import ImagePattern, RegistryConfig
from reconciler.url_patterns import UrlPattern

DEFAULT_PATH = Path("/etc/reconciler/config.toml")
ENVIRONMENT = "RECONCILER_CONFIG"
MIB = 1024 * 1024


def _repository(value: str, info: ValidationInfo) -> str:
    return resolved(value, info) if git_url.is_path(value) else value


class SourceConfig(Section):
    """Settings of every kind of source: where desired states come from, and how often it is fetched."""

    path: str = ""
    """The folder with manifests; empty: the whole repository."""
    name: str = "main"
    poll_interval: Seconds = 60.0
    """Seconds between fetches of a remote repository, ±10 % jitter. A local one is checked each second."""
    fetch_timeout: Seconds = 60.0
    read_timeout: Seconds = 60.0
    """Seconds that reading a revision's manifests may take; a slower one is refused."""
    max_files: int = Field(default=10_000, ge=1)
    max_file_kib: int = Field(default=1024, ge=1)
    prune: bool = False
    """Whether VMs that left the repository are stopped and removed."""
    max_delete: int = Field(default=1, ge=0)
    """The most VMs that one change of the desired state may remove."""


class GitSourceConfig(SourceConfig):
    """A git repository. Only `url` has no default."""

    url: Annotated[str, Field(min_length=1, max_length=2048), AfterValidator(_repository)]
    branch: str = ""
    """Empty: the branch of the remote's HEAD. At most one of branch, tag and commit."""
    tag: str = ""
    commit: str = ""
    max_repository_mib: int = Field(default=256, ge=1)
    ssh_key: HostPath = ""
    """Path of a private key for ssh URLs."""
    user: str = Field(default="", max_length=256, pattern=r"^[^\s:@/]*$")
    """The user name sent with the token; most servers accept any."""
    token_file: HostPath = ""
    """Path of a file with the token, or password, for https URLs; read at each fetch."""
    allow_plaintext: bool = False
    """Whether http:// and git:// are allowed: anyone on the way can read and change what runs here."""
    known_hosts: HostPath = ""
    allow_rewrites: bool = False
    """Whether a branch or tag may move to a commit that does not descend from the last one."""
    verify: Literal["off", "head", "since-last"] = "off"
    """Which commits must be signed by a key in the two files below."""
    allowed_signers: HostPath = ""
    """Path of a file as `ssh-keygen -Y verify` takes it, for signatures of SSH keys."""
    keyring: HostPath = ""
    """Path of a keyring as `gpgv` takes it, for signatures of OpenPGP keys."""


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]


class ScriptConfig(Section):
    """A program that may write layers."""

    path: Annotated[HostPath, Field(pattern=r"^[^=]+$")]
    """Of an executable file. `env`, which starts it, would take one with = for a variable."""
    network: bool = False
    """Whether it reaches the network."""
    seconds: Seconds = 600.0
    """Time that one run may take, by the clock and by its processors."""


class PolicyConfig(Section):
    """What a repository may request from this host; a repository cannot change it."""

    hypervisors: list[Hypervisor] = [DEFAULT]
    host_paths: list[HostPath] = []
    """Path prefixes below which manifests may name kernels, initrds, keyrings and images of the host."""
    mirrors: list[HttpUrl] = []
    """Archives of Debian packages that manifests may name beside those of the host's apt, and what is below
    them: https://snapshot.debian.org/archive/debian."""
    image_urls: list[UrlPattern] = []
    """Patterns of URLs from which manifests may have images downloaded: https://images.example.org/*."""
    scripts: dict[Name, ScriptConfig] = {}
    """Programs of this host that manifests may have write layers, with their own arguments and inputs."""
    runners: bool = False
    """Whether manifests may name runners and layers built by Nix: builds, and the scripts of runners, run the
    repository's code on this host."""
    flakes: list[str] = []
    """Patterns of flakes outside of the repository that Nix may build: github:acme/*."""
    registries: list[ImagePattern] = []
    """Patterns of OCI images that manifests may name: registry.example.org/acme/*."""
    max_memory_mib: int = Field(default=65_536, ge=1)
    """Maximum memory of one VM."""
    max_vcpu: int = Field(default=64, ge=1)
    max_volume_gib: int = Field(default=1024, ge=1)
    forward_addresses: list[str] = ["127.0.0.1"]
    """Host addresses on which a forward may listen."""
    min_forward_port: int = Field(default=1024, ge=1, le=65535)
    bridges: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$")]] = []
    """Bridges of the host into which a tap may be plugged."""
    memory_reserve_mib: int = Field(default=512, ge=0)
    """Host memory that starting a guest must leave free."""
    disk_reserve_mib: int = Field(default=1024, ge=0)
    """Space of the state directory that building and starting must leave free."""
    store_max_mib: int = Field(default=0, ge=0)
    """MiB up to which images are kept that nothing names, for the next push that needs them; 0: none are kept."""
    scrub_mib_per_second: int = Field(default=8, ge=0)
    """How fast images are read again in the background, each once a week, to find rot; 0: they are not."""
    max_concurrent_builds: int = Field(default=2, ge=1)
    generations_kept: int = Field(default=5, ge=1)
    max_rollbacks_per_hour: int = Field(default=10, ge=1)
    """Failed generations within an hour after which no healthy guest is changed any more."""
    max_concurrent_repairs: int = Field(default=4, ge=1)
    """Running but unhealthy guests that are restarted at the same time."""


class HttpConfig(Section):
    """The TCP listener: metrics, health, and the page."""

    address: str = "127.0.0.1"
    port: Port = 9188
    """0: any free port."""
    token_file: HostPath = ""
    """A file with the token that allows actions on the page; empty: the page is read-only."""
    names: list[
        Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$")]
    ] = []
    """Host names accepted in requests, in addition to localhost and this host's own."""


class PushHookConfig(Section):
    """`POST /webhook` of the TCP listener, with which a git server reports a push."""

    secret_file: HostPath = ""
    """Path of a file with the secret shared with the git server; empty: no webhook."""


class DebianKernelConfig(Section):
    """The kernel package of the bundle `debian`."""

    package: str = Field(default="linux-image-cloud-amd64", pattern=r"^[a-z0-9][a-z0-9.+-]+$")
    version: str = Field(default="", pattern=r"^[A-Za-z0-9.+:~-]*$")
    """Exact package version; empty: the newest when the bundle is first made. Changing it restarts guests."""


class KernelsConfig(Section):
    """Settings of kernel bundles."""

    debian: DebianKernelConfig = DebianKernelConfig()


class TracingConfig(Section):
    """OpenTelemetry; off unless an endpoint is set."""

    endpoint: HttpUrl = ""
    """OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces."""


class SinkConfig(Section):
    """Settings of every entry of `[[notifications]]`: its name, and which events it gets."""

    name: Name
    severity: Literal["info", "warning", "error"] = "warning"
    """The lowest severity that is sent; the end of a sent condition is always sent."""
    groups: list[str] = []
    """Only events of these groups; "" means VMs without a group. Empty: all."""
    repeat: Annotated[float, Field(gt=0, le=7 * 86_400)] = 14_400.0
    """Seconds before a lasting condition of the same VM is sent again."""


class HttpSinkConfig(SinkConfig):
    """A sink that receives POST requests."""

    url: Annotated[str, Field(pattern=r"^(https?://[^\s/@]+(/\S*)?)?$", max_length=2048)] = ""
    """The address, without a password: with one it would be a secret."""
    url_file: Secret = ""
    """A file or credential with the address, if that is a secret."""

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if bool(self.url) == bool(self.url_file):
            raise ValueError("exactly one of url and url_file is needed")
        return self


class WebhookConfig(HttpSinkConfig):
    """A sink that posts signed JSON."""

    type: Literal["webhook"]
    secret_file: Annotated[Secret, Field(min_length=1)]
    """The secret with which requests are signed."""


class SlackConfig(SinkConfig):
    """A sink that posts to an incoming webhook of Slack or a compatible server."""

    type: Literal["slack"]
    url_file: Annotated[Secret, Field(min_length=1)]
    """The address; it is a secret, because posting needs nothing else."""


class AlertmanagerConfig(HttpSinkConfig):
    """A sink that posts alerts to Prometheus' Alertmanager."""

    type: Literal["alertmanager"]


class EmailConfig(SinkConfig):
    """A sink that sends mail."""

    type: Literal["email"]
    server: str = Field(min_length=1)
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    tls: Literal["starttls", "tls", "none"] = "starttls"
    user: str = ""
    password_file: Secret = ""
    sender: str = Field(pattern=r"^[^\s@<>,]+@[^\s@<>,]+$")
    to: list[Annotated[str, Field(pattern=r"^[^\s@<>,]+@[^\s@<>,]+$")]] = Field(min_length=1)

    @model_validator(mode="after")
    def _whole_login(self) -> Self:
        if bool(self.user) != bool(self.password_file):
            raise ValueError("user and password_file go together")
        if self.user and self.tls == "none":
            raise ValueError("a password is not sent without tls")
        return self


NotificationConfig = WebhookConfig | SlackConfig | AlertmanagerConfig | EmailConfig
SINKS: dict[str, type[SinkConfig]] = {
    get_args(model.model_fields["type"].annotation)[0]: model
    for model in get_args(NotificationConfig)
}


class Config(Section, HypervisorTables):
    """The whole config file."""

    source: GitSourceConfig
    state_dir: HostPath = "/var/lib/reconciler"
    control_socket: HostPath = "/run/reconciler/control.sock"
    supervisor: Literal["local", "systemd"] = "local"
    """systemd: each guest is a service with limits; needs root and the system's D-Bus. local: a child process."""
    log_format: Literal["logfmt", "json"] = "logfmt"
    http: HttpConfig = HttpConfig()
    webhook: PushHookConfig = PushHookConfig()
    policy: PolicyConfig = PolicyConfig()
    kernels: KernelsConfig = KernelsConfig()
    tracing: TracingConfig = TracingConfig()
    registries: list[RegistryConfig] = []
    notifications: list[Annotated[NotificationConfig, Field(discriminator="type")]] = []

    @property
    def state(self) -> Path:
        """The state directory."""
        return Path(self.state_dir)


def config_path(given: Path | None) -> Path:
    """`--config`, else RECONCILER_CONFIG, else /etc/reconciler/config.toml."""
    if given is not None:
        return given
    return Path(os.environ.get(ENVIRONMENT) or DEFAULT_PATH)


def load_config(path: Path) -> Config:
    """Read and validate a config file. Raises ConfigError that names file, key and remedy."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: no such file", hint=f"write one with [source] url = ..., or set {ENVIRONMENT}"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}", hint=f"read it as root, or check its mode: ls -l {path}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}", hint="correct that line") from error
    return parse_config(raw, str(path), path.absolute().parent)


def parse_config(raw: dict[str, object], origin: str, base: Path | None = None) -> Config:
    """Validate settings from a parsed file; `origin` names it in errors.

    Relative paths are resolved against `base`; without it they stay as they are. Raises ConfigError.
    """
    try:
        config = Config.model_validate(raw, context={"base": str(base)} if base else None)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        (key, words, hint), *others = map(_explained, found)
        more = f" (wrong too: {', '.join(other[0] for other in others)})" if others else ""
        raise ConfigError(f"{origin}: {key}: {words}{more}", hint=hint) from error
    if sum(map(bool, (config.source.branch, config.source.tag, config.source.commit))) > 1:
        raise ConfigError(
            f"{origin}: source: branch, tag and commit exclude each other", hint="keep one of them"
        )
    source = config.source
    fault = git_url.fault_of(
        source.url, source.user, source.token_file, plain=source.allow_plaintext
    )
    if fault is not None:
        raise ConfigError(f"{origin}: source.{fault.key}: {fault.message}", hint=fault.hint)
    if source.verify != "off" and not (source.allowed_signers or source.keyring):
        raise ConfigError(
            f"{origin}: source.verify: {source.verify!r} without any accepted signer",
            hint="name a file of keys in source.allowed_signers or source.keyring",
        )
    for table, entries in (
        ("notifications", config.notifications),
        ("registries", config.registries),
    ):
        names = [entry.name for entry in entries]
        if len(set(names)) < len(names):
            raise ConfigError(
                f"{origin}: {table}: two have the same name", hint="give each its own name"
            )
    return config


def _explained(detail: ErrorDetails) -> tuple[str, str, str]:
    """The key, what is wrong with it, and what to do."""
    *place, last = detail["loc"]
    if place[:1] == ["notifications"]:
        place[1:] = place[1:2]  # without the type, which is not a key
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in (*place, last))
    key = key.removeprefix(".")
    match detail["type"]:
        case "extra_forbidden":
            return key, "unknown key", _nearest(str(last), _keys_beside(detail["loc"]))
        case "missing" if key == "source":
            return "source.url", "is missing", 'write [source] and below it url = "..."'
        case "missing":
            return key, "is missing", "add it: it has no default"
        case "union_tag_invalid":
            given = str(detail["ctx"]["tag"])
            known = ", ".join(SINKS)
            return (
                f"{key}.type",
                f'"{given[:64]}" is not one of: {known}',
                _nearest(given, [*SINKS]),
            )
        case _:
            words = detail["msg"].removeprefix("Input ").removeprefix("Value error, ")
            return key, words, f"correct {key}, or remove it"


def _keys_beside(loc: tuple[int | str, ...]) -> list[str]:
    """The keys that the table with this key may have."""
    model: type[BaseModel] = Config
    if loc[0] == "notifications":
        model = SINKS.get(str(loc[2]), SinkConfig)
        loc = ()
    if loc[:1] == ("registries",):
        model, loc = RegistryConfig, ()
    if loc[:2] == ("policy", "scripts"):
        model, loc = ScriptConfig, ()
    for part in loc[:-1]:
        inner = model.model_fields[str(part)].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return list(model.model_fields)


def _nearest(name: str, known: list[str]) -> str:
    return did_you_mean(name, known, f"known here: {', '.join(known)}")
