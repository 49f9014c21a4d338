"""The layer kind `tree`: a folder of the repository, with the owners and modes that git cannot carry."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from reconciler.model.fields import Face, Folder, matching
from reconciler.model.layer_kinds.described_source import LayerPolicy, StoreFormat
from reconciler.model.quantity import refusal

LARGEST_ID = (1 << 32) - 2
MOST_RULES = 1_000
BELOW = "**"
"""Ends a path that stands for everything below it."""
WILD = frozenset("*?")
READ_BITS = 0o444


def _an_entry(value: str) -> str:
    parts = value.split("/")[1:]
    if value != "/" and ({"", ".", ".."} & set(parts) or BELOW in "/".join(parts[:-1])):
        raise refusal("is not a path of the layer", "write /etc/app.conf, /srv/*.sh or /srv/**")
    if BELOW in parts[-1] and parts[-1] != BELOW:
        raise refusal("is not a path of the layer", "`**` stands alone: /srv/**")
    return value


def _an_owner(value: str) -> str:
    if any(int(number) > LARGEST_ID for number in value.partition(" ")[0].split(":")):
        raise refusal("has an id that is too large", f"{LARGEST_ID} at most")
    return value


EntryPath = Annotated[
    str,
    matching(r"^/[^\x00-\x1f\x7f]*$", "begin with /: /etc/app.conf, /srv/**", max_length=1024),
    AfterValidator(_an_entry),
]
Owner = Annotated[
    str,
    matching(
        r"^[0-9]{1,10}:[0-9]{1,10}( [0-7]{3,4})?$",
        'numbers of user and group, and perhaps a mode: "33:33" or "0:33 0640"',
    ),
    AfterValidator(_an_owner),
]


class OwnedTree(Face):
    """A folder of the repository, with owners and modes, of which git keeps none."""

    path: Folder = Field(description="The folder, relative to the manifest.")
    owners: dict[EntryPath, Owner] = Field(
        min_length=1,
        max_length=MOST_RULES,
        description="By path in the layer: user and group as numbers, and perhaps a mode, as `0:33 0640`."
        " `*` and `?` stand for parts of one name, a last `/**` for everything below. Of several that"
        " match, a plain path counts first, a `/**` last, and else the longest. All else belongs to root.",
    )


Tree = Annotated[
    Annotated[Folder, Tag("<folder>")] | Annotated[OwnedTree, Tag("<owned>")],
    Discriminator(lambda given: "<folder>" if isinstance(given, str) else "<owned>"),
]


def source_of(tree: str | OwnedTree) -> TreeSource:
    """The source of a tree as a manifest writes it."""
    if isinstance(tree, str):
        return TreeSource("", tree)
    rules = (OwnerRule.of(path, owner) for path, owner in tree.owners.items())
    return TreeSource("", tree.path, owners=tuple(sorted(rules, key=lambda rule: rule.path)))


@dataclass(frozen=True, slots=True)
class OwnerRule:
    """To whom the entries at a path belong."""

    path: str
    """Of an entry below `/`, with wildcards or without."""
    uid: int
    gid: int
    mode: int | None = None
    """None: as git has it, 0755 or 0644."""

    @staticmethod
    def of(path: str, owner: str) -> OwnerRule:
        ids, _, mode = owner.partition(" ")
        uid, _, gid = ids.partition(":")
        return OwnerRule(path, int(uid), int(gid), int(mode, 8) if mode else None)

    @property
    def is_plain(self) -> bool:
        """Whether it is about one entry, which must be there."""
        return not WILD & set(self.path)

    def __str__(self) -> str:
        mode = "" if self.mode is None else f" {self.mode:04o}"
        return f"{self.path} {self.uid}:{self.gid}{mode}"


@dataclass(frozen=True, slots=True)
class Owned:
    """To whom an entry belongs; a mode of None is that of the file."""

    uid: int = 0
    gid: int = 0
    mode: int | None = None


class Owners:
    """The rules, arranged for one lookup an entry."""

    def __init__(self, rules: Sequence[OwnerRule]) -> None:
        self._plain = {rule.path: rule for rule in rules if rule.is_plain}
        self._unused = set(self._plain)
        wild = [rule for rule in rules if not rule.is_plain]
        # One for everything below comes last, a longer one first; of equally long ones always the same.
        wild.sort(key=lambda rule: (rule.path.endswith(BELOW), -len(rule.path), rule.path))
        self._wild = [(_expression(rule.path), rule) for rule in wild]

    def of(self, path: str, *, is_folder: bool) -> Owned:
        """To whom the entry at this path, which begins with /, belongs."""
        plain = self._plain.get(path)
        if plain is not None:
            self._unused.discard(path)
            return Owned(plain.uid, plain.gid, plain.mode)
        for expression, rule in self._wild:
            if expression.fullmatch(path):
                mode = rule.mode
                if mode is not None and is_folder:
                    # Who may read the files of a pattern may enter its folders.
                    mode |= (mode & READ_BITS) >> 2
                return Owned(rule.uid, rule.gid, mode)
        return Owned()

    @property
    def unused(self) -> list[str]:
        """Plain paths that were never asked about."""
        return sorted(self._unused)


def _expression(path: str) -> re.Pattern[str]:
    *folders, last = path.split("/")[1:]
    begin = "".join(f"/{_of_name(name)}" for name in folders)
    return re.compile(begin + ("/.+" if last == BELOW else f"/{_of_name(last)}"), re.DOTALL)


def _of_name(name: str) -> str:
    known = {"*": "[^/]*", "?": "[^/]"}
    return "".join(known.get(character) or re.escape(character) for character in name)


@dataclass(frozen=True, slots=True)
class TreeSource:
    """A folder of the repository, by the id of its git tree; `path` is for people."""

    tree: str
    """Empty while it is not resolved."""
    path: str
    kind: Literal["tree"] = "tree"
    owners: tuple[OwnerRule, ...] = ()
    """Sorted by path; empty: all belongs to root."""
    brings_init: ClassVar[bool] = False
    needs_contract: ClassVar[int] = 1

    @property
    def default_format(self) -> StoreFormat:
        # Owners come by way of a tar, which mkfs.erofs takes only from 1.7 on.
        return "squashfs" if self.owners else "erofs"

    @property
    def title(self) -> str:
        return f"tree {self.path}"

    @property
    def folders(self) -> tuple[str, ...]:
        return (self.path,)

    def resolved(self, ids: tuple[str, ...], /) -> TreeSource:
        return replace(self, tree=ids[0])

    @property
    def key_inputs(self) -> Mapping[str, str]:
        plain = {"kind": self.kind, "tree": self.tree}
        return plain | {"owners": "\n".join(map(str, self.owners))} if self.owners else plain

    def refusal(self, _policy: LayerPolicy, /) -> None:
        """Its files end in a guest, and nothing of it runs here."""


def folders_of(tree: object) -> Iterator[str]:
    """The folder that a tree names, whatever else is wrong with it."""
    folder = tree.get("path") if isinstance(tree, dict) else tree
    if isinstance(folder, str):
        yield folder
