"""The daemon's own settings: TOML in, a frozen value out, exit 78 with file and key if it is wrong."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails

from reconciler import git_url
from reconciler.errors import ConfigError, did_you_mean
from reconciler.hypervisors import DEFAULT, Hypervisor, HypervisorTables

DEFAULT_PATH = Path("/etc/reconciler/config.toml")
ENVIRONMENT = "RECONCILER_CONFIG"
MIB = 1024 * 1024

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
HttpUrl = Annotated[str, Field(pattern=r"^(https?://[^\s/]\S*)?$", max_length=2048)]


def _resolved(value: str, info: ValidationInfo) -> str:
    """A path against the folder of the config file, once: children have working folders of their own."""
    if value.startswith("~"):
        raise ValueError("~ is not expanded here: write the whole path")
    base = (info.context or {}).get("base", "")
    return os.path.join(base, value) if value else value  # noqa: PTH118 - "" stays "", "./a" stays


def _resolved_unless_bare(value: str, info: ValidationInfo) -> str:
    return _resolved(value, info) if "/" in value else value


def _repository(value: str, info: ValidationInfo) -> str:
    return _resolved(value, info) if git_url.is_path(value) else value


HostPath = Annotated[str, AfterValidator(_resolved)]
"""A path of this host; one that is relative is meant from the config's folder."""
Secret = Annotated[str, AfterValidator(_resolved_unless_bare)]
"""A path, or without any slash the name of a credential that systemd hands over."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class SourceConfig(Section):
    """What every kind of source has: where desired states come from, and how often it is looked at."""

    path: str = ""
    """The folder that holds manifests; empty for all of it."""
    name: str = "main"
    poll_interval: Seconds = 60.0
    """Seconds between looks at a remote repository; ±10 % jitter. A local one is looked at each second."""
    fetch_timeout: Seconds = 60.0
    read_timeout: Seconds = 60.0
    """Seconds in which the manifests of a revision must be read; one that takes longer is refused."""
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
    """Empty: what the remote's HEAD names. At most one of branch, tag and commit."""
    tag: str = ""
    commit: str = ""
    max_repository_mib: int = Field(default=256, ge=1)
    ssh_key: HostPath = ""
    """Path of a private key for ssh URLs."""
    user: str = Field(default="", max_length=256, pattern=r"^[^\s:@/]*$")
    """Who shows the token; most servers take any name with one."""
    token_file: HostPath = ""
    """Path of a file with the token, or password, for https URLs; read at each fetch."""
    allow_plaintext: bool = False
    """Whether http:// and git:// may be used: anybody on the way sees what runs here, and may change it."""
    known_hosts: HostPath = ""
    allow_rewrites: bool = False
    """Whether a branch or tag may be moved to a commit that does not continue the last one."""
    verify: Literal["off", "head", "since-last"] = "off"
    """Which commits must be signed by a key that the two files below name."""
    allowed_signers: HostPath = ""
    """Path of a file as `ssh-keygen -Y verify` takes it, for signatures of SSH keys."""
    keyring: HostPath = ""
    """Path of a keyring as `gpgv` takes it, for signatures of OpenPGP keys."""


class PolicyConfig(Section):
    """What a repository may ask of this host; a repository cannot widen it."""

    hypervisors: list[Hypervisor] = [DEFAULT]
    host_paths: list[HostPath] = []
    """Prefixes under which a manifest may name kernels and initrds of the host."""
    runners: bool = False
    """Whether a manifest may name a runner that Nix makes: its build and its scripts are code of the
    repository that runs on this host."""
    flakes: list[str] = []
    """Patterns of flakes outside of the repository that a runner may come from: github:acme/*."""
    max_memory_mib: int = Field(default=65_536, ge=1)
    """The most memory of one VM."""
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
    max_concurrent_builds: int = Field(default=2, ge=1)
    generations_kept: int = Field(default=5, ge=1)
    max_rollbacks_per_hour: int = Field(default=10, ge=1)
    """Failed generations within an hour after which nothing that serves is changed any more."""
    max_concurrent_repairs: int = Field(default=4, ge=1)
    """Guests that live and fail their checks, and are started again at the same time."""


class HttpConfig(Section):
    """The TCP face: metrics, health, and the page."""

    address: str = "127.0.0.1"
    port: Port = 9188
    """0 for any free one."""
    token_file: HostPath = ""
    """A file with the token that allows acting on the page; empty: it only shows."""
    names: list[
        Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$")]
    ] = []
    """Names by which people and proxies ask, beside localhost and this host's own."""


class PushHookConfig(Section):
    """`POST /webhook` of the TCP face: a git server tells of a push."""

    secret_file: HostPath = ""
    """Path of a file with the secret that the git server knows too; empty: no webhook."""


class DebianKernelConfig(Section):
    package: str = Field(default="linux-image-cloud-amd64", pattern=r"^[a-z0-9][a-z0-9.+-]+$")
    version: str = Field(default="", pattern=r"^[A-Za-z0-9.+:~-]*$")
    """Exact package version; empty: the newest when the bundle is first made. Changing it restarts guests."""


class KernelsConfig(Section):
    debian: DebianKernelConfig = DebianKernelConfig()


class TracingConfig(Section):
    """OpenTelemetry; off as long as nothing is named."""

    endpoint: HttpUrl = ""
    """OTLP over HTTP, as http://127.0.0.1:4318/v1/traces."""


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]


class SinkConfig(Section):
    """What every entry of `[[notifications]]` has: a name, and which events it is told of."""

    name: Name
    severity: Literal["info", "warning", "error"] = "warning"
    """The least that it is told; that something is over is told with it."""
    groups: list[str] = []
    """Of these groups alone; "" is what belongs to no group. Empty: all."""
    repeat: Annotated[float, Field(gt=0, le=7 * 86_400)] = 14_400.0
    """Seconds before the same trouble with the same VM is told again, while it lasts."""


class HttpSinkConfig(SinkConfig):
    """A sink that takes POST requests."""

    url: Annotated[str, Field(pattern=r"^(https?://[^\s/@]+(/\S*)?)?$", max_length=2048)] = ""
    """Without a password: such an address is a secret."""
    url_file: Secret = ""
    """A file or credential that holds the address, where that is a secret."""

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if bool(self.url) == bool(self.url_file):
            raise ValueError("exactly one of url and url_file is wanted")
        return self


class WebhookConfig(HttpSinkConfig):
    type: Literal["webhook"]
    secret_file: Annotated[Secret, Field(min_length=1)]
    """What requests are signed with."""


class SlackConfig(SinkConfig):
    type: Literal["slack"]
    url_file: Annotated[Secret, Field(min_length=1)]
    """The address is all that is needed to post: it is a secret."""


class AlertmanagerConfig(HttpSinkConfig):
    type: Literal["alertmanager"]


class EmailConfig(SinkConfig):
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
    source: GitSourceConfig
    state_dir: HostPath = "/var/lib/reconciler"
    control_socket: HostPath = "/run/reconciler/control.sock"
    supervisor: Literal["local", "systemd"] = "local"
    """systemd: each guest is a service with limits; needs root and the system's D-Bus."""
    log_format: Literal["logfmt", "json"] = "logfmt"
    http: HttpConfig = HttpConfig()
    webhook: PushHookConfig = PushHookConfig()
    policy: PolicyConfig = PolicyConfig()
    kernels: KernelsConfig = KernelsConfig()
    tracing: TracingConfig = TracingConfig()
    notifications: list[Annotated[NotificationConfig, Field(discriminator="type")]] = []

    @property
    def state(self) -> Path:
        return Path(self.state_dir)


def config_path(given: Path | None) -> Path:
    """`--config`, else RECONCILER_CONFIG, else /etc/reconciler/config.toml."""
    if given is not None:
        return given
    return Path(os.environ.get(ENVIRONMENT) or DEFAULT_PATH)


def load_config(path: Path) -> Config:
    """Read and check the settings.

    Raises ConfigError naming the file, the key and the remedy.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: no such file", hint=f"write one with [source] url = ..., or set {ENVIRONMENT}"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}", hint=f"read it as root, or look at: ls -l {path}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}", hint="mend the named line") from error
    return parse_config(raw, str(path), path.absolute().parent)


def parse_config(raw: dict[str, object], origin: str, base: Path | None = None) -> Config:
    """Check settings that were already read; `origin` names them in errors.

    Relative paths are meant from `base`; without it they stay as they are.
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
            f"{origin}: source.verify: {source.verify!r} without anybody who may sign",
            hint="name a file of keys in source.allowed_signers or source.keyring",
        )
    names = [sink.name for sink in config.notifications]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"{origin}: notifications: two have one name", hint="give each a name of its own"
        )
    return config


def _explained(detail: ErrorDetails) -> tuple[str, str, str]:
    """The key, what is wrong with it, and what to do."""
    *place, last = detail["loc"]
    if place[:1] == ["notifications"]:
        place[1:] = place[1:2]  # without the type, which is no key
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
    """What the table that holds a key may have."""
    model: type[BaseModel] = Config
    if loc[0] == "notifications":
        model = SINKS.get(str(loc[2]), SinkConfig)
        loc = ()
    for part in loc[:-1]:
        inner = model.model_fields[str(part)].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return list(model.model_fields)


def _nearest(name: str, known: list[str]) -> str:
    return did_you_mean(name, known, f"known here: {', '.join(known)}")
