"""Which kernel modules an initrd needs, in loading order, from a package and our recipe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import BuildFailed
from reconciler.image.decompress import decompress

RECIPE_LINE = re.compile(r"(?P<when>[a-z0-9]+) (?P<name>[a-z0-9_-]+)(?P<optional>\?)?")
FILE = re.compile(r"(?P<name>.+)\.ko(?P<packed>\.xz|\.zst)?")
DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")
MOST_MODULE_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class ModuleRule:
    """A line of the recipe: a module, when init loads it, and whether a kernel may lack it."""

    when: str
    name: str
    optional: bool


@dataclass(frozen=True, slots=True)
class Module:
    """A module as init finds it."""

    when: str
    name: str
    content: bytes


def read_recipe(text: str) -> list[ModuleRule]:
    """Parse `guest/initrd/modules`."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    wanted = []
    for line in lines:
        match = RECIPE_LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"not a line of a module recipe: {line!r}")
        wanted.append(ModuleRule(match["when"], match["name"], match["optional"] is not None))
    return wanted


class ModuleTree:
    """The modules of one unpacked kernel package.

    Packages come without `modules.dep`, which depmod makes at installation; what a module depends
    on is written in itself.
    """

    def __init__(self, folder: Path, scratch: Path) -> None:
        self._folder = folder
        self._files = dict(_module_files(folder))
        self._builtin = _builtin(folder)
        self._scratch = scratch

    @property
    def release(self) -> str:
        """What `uname -r` says in the guest. Raises BuildFailed."""
        found = sorted({path.name for path in self._folder.glob("**/lib/modules/*")})
        if len(found) != 1:
            raise BuildFailed(f"the kernel package has modules for {len(found)} kernels")
        return found[0]

    def pick(self, recipe: list[ModuleRule]) -> list[Module]:
        """The recipe's modules, each after those that it needs. Raises BuildFailed."""
        picked: dict[str, Module] = {}
        for wanted in recipe:
            self._add(wanted, picked)
        return list(picked.values())

    def _add(self, wanted: ModuleRule, picked: dict[str, Module]) -> None:
        name = _plain(wanted.name)
        if name in picked or name in self._builtin:
            return
        if name not in self._files:
            if wanted.optional:
                return
            raise BuildFailed(
                f"the kernel package has no module {wanted.name}",
                hint="set [kernels.debian] package to a kernel that has virtio, erofs and overlayfs",
            )
        content = self._read(self._files[name])
        for needed in _depends(content):
            self._add(ModuleRule(wanted.when, needed, optional=False), picked)
        picked[name] = Module(wanted.when, wanted.name, content)

    def _read(self, path: Path) -> bytes:
        if path.stat().st_size > MOST_MODULE_BYTES:
            raise BuildFailed(f"{path.name}: larger than {MOST_MODULE_BYTES >> 20} MiB")
        content = path.read_bytes()
        return content if path.suffix == ".ko" else decompress(content, self._scratch)


def _module_files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*.ko*")):
        match = FILE.fullmatch(path.name)
        if match is not None:
            yield _plain(match["name"]), path


def _builtin(folder: Path) -> frozenset[str]:
    lists = sorted(folder.rglob("modules.builtin"))
    lines = [line for path in lists for line in path.read_text(encoding="utf-8").splitlines()]
    return frozenset(_plain(Path(line).name.removesuffix(".ko")) for line in lines)


def _depends(content: bytes) -> list[str]:
    match = DEPENDS.search(content)
    return match[1].decode("ascii").split(",") if match and match[1] else []


def _plain(name: str) -> str:
    """`-` and `_` are one in module names."""
    return name.replace("-", "_")
