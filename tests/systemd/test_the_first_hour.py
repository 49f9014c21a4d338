"""The chapters of docs/operations/ that a person follows, line by line: install to another host."""

from __future__ import annotations

import re
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.daemon import free_port
from tests.systemd.container import Container
from tests.systemd.host import ROOT, Host
from tests.systemd.test_life import repacked
from tests.wait import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

FOLDER = ROOT / "docs/operations"
AGREED = "reconciler reconciler/purge-state boolean true\n"
SSH_ADDRESS = "127.77.0.1"
SSHD = f"ListenAddress {SSH_ADDRESS}\n"
KEYS = "/srv/git/.ssh/authorized_keys"
SERVER = "git.example.org"
PORT = "8080"
FOLLOWING = 240.0


def blocks() -> dict[str, list[str]]:
    """The shell of each chapter of the pages, in its order."""
    found: dict[str, list[str]] = {}
    pages = "\n".join(path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.md")))
    for chapter in re.split(r"^##+ ", pages, flags=re.MULTILINE):
        name = chapter.split("\n", 1)[0]
        found[name] = re.findall(r"^```sh\n(.*?)^```", chapter, re.MULTILINE | re.DOTALL)
    return found


class Operator:
    """Follows the page on a host; the VM's port is one that is free here."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.port = str(free_port())

    def follow(self, chapter: str, which: int = 0) -> str:
        lines = blocks()[chapter][which].replace(PORT, self.port)
        argv = ("bash", "-euo", "pipefail", "-c", lines)
        return self.host.container.run(*argv, timeout=FOLLOWING).stdout

    def ask(self, path: str) -> str:
        url = f"http://127.0.0.1:{self.port}/{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode().strip())

    def starts(self) -> int:
        """How often the guest was started, as its volume says."""
        return len(self.ask("starts").splitlines())

    def root(self, path: str) -> Path:
        return self.host.container.root / path

    def clean(self) -> None:
        """Nothing of ours is on the host."""
        self.root("srv/agreed").write_text(AGREED)
        self.host.container.run("debconf-set-selections", "/srv/agreed")
        self.host.apt("purge", "reconciler")
        assert not self.root("var/lib/reconciler").exists()

    def use_a_free_port(self) -> None:
        """The read-only face's usual one may be taken on the machine that tests."""
        self.host.configure(port=f"port = {free_port()}")
        self.host.systemctl("restart", "reconciler.service")


@pytest.fixture(scope="module")
def operator(host: Host, package: Path) -> Operator:
    operator = Operator(host)
    if operator.root("usr/bin/reconciler").exists():
        operator.clean()
    left = "/srv/git/fleet.git/* /etc/reconciler /var/lib/reconciler"
    host.container.run("sh", "-c", f"rm -rf {left}")
    operator.root(f"root/{package.name}").write_bytes(package.read_bytes())
    return operator


def test_install(operator: Operator) -> None:
    said = operator.follow("Install")
    assert "0 to fix" in said or "this host is ready" in said
    operator.use_a_free_port()


def test_a_first_repository(operator: Operator) -> None:
    assert "healthy" in operator.follow("A first repository")
    assert operator.ask("") == "hello"
    assert operator.starts() == 1


def test_a_repository_elsewhere_with_a_deploy_key(operator: Operator) -> None:
    host = operator.host
    folder = operator.root("etc/ssh/sshd_config.d")
    folder.mkdir(parents=True)
    (folder / "here.conf").write_text(SSHD)
    with operator.root("etc/hosts").open("a") as hosts:
        hosts.write(f"{SSH_ADDRESS} {SERVER}\n")
    host.apt("install", "--no-install-recommends", "openssh-server")
    host.container.run("git", "config", "--global", "--add", "safe.directory", "*")  # root pushes
    host.container.run("useradd", "--home-dir", "/srv/git", "git")
    public = operator.follow("A remote repository").splitlines()[-1]
    assert public.startswith("ssh-ed25519 ")
    host.container.run("install", "-d", "-o", "git", "/srv/git/.ssh")
    operator.root(KEYS.removeprefix("/")).write_text(public)
    host.container.run("chown", "-R", "git:", "/srv/git")
    operator.follow("A remote repository", 1)
    push(operator, "from elsewhere")
    host.container.run("reconciler", "reconcile", "--wait")
    assert operator.ask("") == "from elsewhere"


def push(operator: Operator, page: str) -> None:
    (operator.root("root/fleet") / "web/www/index.html").write_text(f"{page}\n")
    me = "git -c user.name=me -c user.email=me@localhost"
    said = f"cd ~/fleet && {me} commit -qam '{page}' && git push -q origin HEAD:main"
    operator.host.container.run("sh", "-c", said)


def test_an_upgrade_that_no_guest_notices(
    operator: Operator, package: Path, tmp_path: Path
) -> None:
    before = operator.starts()
    newer = repacked(package, tmp_path, "99.0.0")
    operator.root(f"root/{package.name}").unlink()
    operator.root(f"root/{newer.name}").write_bytes(newer.read_bytes())
    operator.follow("Upgrade and downgrade")
    assert operator.root("root/ledger.db").exists()
    installed = operator.host.container.run("dpkg-query", "-W", "-f", "${Version}", "reconciler")
    assert installed.stdout == "99.0.0"
    assert operator.starts() == before


def test_backup_and_restore(operator: Operator) -> None:
    before = operator.starts()
    operator.follow("Backup")
    again(operator, before + 1)
    operator.host.container.run("reconciler", "restart", "web")
    again(operator, before + 2)
    operator.follow("Restore")
    again(operator, before + 1)


def again(operator: Operator, starts: int) -> None:
    """Wait until the guest answers after so many starts."""

    def look() -> bool:
        try:
            return operator.starts() == starts
        except OSError:
            return False

    wait_until(look, FOLLOWING, f"{starts} starts", every=0.2)


@pytest.fixture
def another(operator: Operator, debian: Path) -> Iterator[Operator]:
    """A machine of its own, with nothing on it; of the first one it knows the git server's name."""
    container = Container(debian)
    try:
        container.mount()
        container.boot()
        another = Operator(Host(container, operator.host.repository))
        another.port = operator.port
        with another.root("etc/hosts").open("a") as hosts:
            hosts.write(f"{SSH_ADDRESS} {SERVER}\n")
        yield another
    finally:
        container.close()


def test_move_to_another_host(operator: Operator, another: Operator) -> None:
    before = operator.starts()
    old = operator.host
    old.apt("purge", "reconciler")
    old.systemctl("stop", "microvms.slice")
    assert operator.root("var/lib/reconciler/ledger.db").exists(), "nobody agreed to more"
    for name in ("srv/backup.tar", *(f"root/{deb.name}" for deb in packages(operator))):
        shutil.copy(operator.root(name), another.root(name))
    another.follow("Install")
    another.follow("Restore")
    again(another, before)
    assert another.ask("") == "from elsewhere"
    left = old.systemctl("list-units", "--plain", "--no-legend", "microvm-*.service").stdout
    assert left == ""


def packages(operator: Operator) -> list[Path]:
    return list(operator.root("root").glob("reconciler_*.deb"))


def test_no_shell_of_these_chapters_is_left_out() -> None:
    followed = re.findall(r'\.follow\("([^"]+)"(?:, (\d))?\)', Path(__file__).read_text())
    named = {(name, int(which or 0)) for name, which in followed}
    first_hour = section((FOLDER / "getting-started.md").read_text("utf-8"), "## The first hour")
    chapters = {name for name, _ in named} | set(
        re.findall(r"^### (.+)$", first_hour, re.MULTILINE)
    )
    assert named == {(name, i) for name in chapters for i, _ in enumerate(blocks()[name])}


def section(page: str, heading: str) -> str:
    return page.split(f"\n{heading}\n")[1].split("\n## ", maxsplit=1)[0]
