"""Finds a guard in the code by its shape, so that renames, moves and line breaks do not lose it.

The shape of code is its keywords, operators and numbers in order. Names and strings may differ, if
each name of the fragment stands for one name of the code throughout. Of several places with the shape,
the one with the most names unchanged is meant.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.mutant import Mutant

TOKEN = re.compile(
    r"""(?P<space>\s+|\\\n|\#[^\n]*)
    |(?P<string>[rbfRBF]{0,2}(?:\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}
        |"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    |(?P<name>[^\W\d]\w*(?:\.[^\W\d]\w*)*)
    |(?P<other>\d[\w.]*|->|:=|\.\.\.|\*\*=?|//=?|<<=?|>>=?|[-+*/%@&|^=!<>]=|.)""",
    re.VERBOSE | re.DOTALL,
)
"""A name is whole with its dots: `guard()` and `module.guard()` have the same shape."""
FIXED = frozenset((*keyword.kwlist, *dir(builtins), "self", "_"))
TRAILING_COMMA = re.compile(r",\s*(?=[)\]}])")
LEAST_ALIKE, LEAST_ALIKE_IF_SHORT = 0.25, 0.34
"""The share of names and strings that must be unchanged..."""
TELLING = 12
"""...unless the shape has this many tokens and stands only once."""


class NotFound(LookupError):
    """The guard is nowhere, or it cannot be decided where; says so."""


@dataclass(frozen=True)
class Token:
    """`shape` is the text itself, or `N` for a name and `S` for a string."""

    shape: str
    text: str
    begin: int
    end: int


@dataclass(frozen=True)
class Place:
    """Where a guard stands: offsets in the text of a file, and what its names are called there."""

    file: Path
    begin: int
    end: int
    names: Mapping[str, str]
    alike: float


class Code:
    """One file, ready to be searched."""

    def __init__(self, file: Path, text: str) -> None:
        self.file = file
        self.text = text
        self.tokens = tokens(text)
        self.shape = shape(self.tokens)

    def places(self, before: str, guard: str, after: str) -> Iterator[Place]:
        """Wherever something has this shape, however its names differ."""
        ahead, own = len(tokens(before)), len(tokens(guard))
        fragment = (*tokens(before), *tokens(guard), *tokens(after))
        wanted = shape(fragment)
        at = self.shape.find(wanted)
        while at >= 0:
            # A shape may begin within another's longer one only at a token: each ends with a newline.
            if at == 0 or self.shape[at - 1] == "\n":
                first = self.shape.count("\n", 0, at)
                found = self.tokens[first : first + len(fragment)]
                if place := self._unify(fragment, found, ahead, ahead + own - 1):
                    yield place
            at = self.shape.find(wanted, at + 1)

    def _unify(
        self, fragment: Sequence[Token], found: Sequence[Token], begin: int, last: int
    ) -> Place | None:
        """`begin` and `last` are the guard's own tokens; those around it only tell where it is."""
        names: dict[str, str] = {}
        former: dict[str, str] = {}
        same, count = 0.0, 0
        end = found[last].end
        for number, (a, b) in enumerate(zip(fragment, found, strict=True)):
            if a.shape not in ("N", "S"):
                continue
            count += 1
            text = b.text
            if number == len(fragment) - 1 and text.startswith(f"{a.text}."):
                text = a.text  # the last name may go on: `plan.groups` is in `plan.groups.pop`
                end = b.begin + len(text) if number == last else end
            if a.shape == "N" and (
                names.setdefault(a.text, text) != text or former.setdefault(text, a.text) != a.text
            ):
                return None
            same += _likeness(a.text, text)
        return Place(self.file, found[begin].begin, end, names, same / count if count else 1.0)


def _likeness(former: str, now: str) -> float:
    """The share of the parts between dots that are the same, from the end."""
    a, b = former.split(".")[::-1], now.split(".")[::-1]
    return sum(x == y for x, y in zip(a, b, strict=False)) / max(len(a), len(b))


def tokens(text: str) -> tuple[Token, ...]:
    """All that is no space and no comment; without commas before a closing bracket."""
    found = []
    for match in TOKEN.finditer(text):
        if match.lastgroup == "space" or TRAILING_COMMA.match(text, match.start()):
            continue
        word = match.group()
        loose = match.lastgroup == "string" or (match.lastgroup == "name" and word not in FIXED)
        kind = str(match.lastgroup)[0].upper() if loose else word
        found.append(Token(kind, word, match.start(), match.end()))
    return tuple(found)


def shape(found: Sequence[Token]) -> str:
    return "".join(f"{token.shape}\n" for token in found)


def tree_of(folder: Path) -> dict[Path, Code]:
    """All of the product's code below `folder`, by its path there."""
    files = sorted((folder / "reconciler").rglob("*.py"))
    return {
        file.relative_to(folder): Code(file.relative_to(folder), file.read_text(encoding="utf-8"))
        for file in files
    }


def find(mutant: Mutant, code: Mapping[Path, Code]) -> Place:
    """The one place where this guard stands. Raises NotFound.

    What stands around it may have changed: it is looked for with both sides, with one, and alone.
    """
    refused = [f"nothing looks like its guard, which was in {mutant.file}"]
    for before, after in (
        (mutant.before, mutant.after), (mutant.before, ""), ("", mutant.after), ("", ""),
    ):  # fmt: skip
        ranked = _ranked(mutant, code, before, after)
        if len(ranked) == 1 or (ranked and _is_clear(ranked, mutant)):
            return ranked[0]
        if ranked:
            where = " and ".join(
                f"{place.file}:{line_of(code[place.file].text, place.begin)}"
                for place in ranked[:2]
            )
            refused.append(f"its guard may be {where}; write more of it")
    raise NotFound(f"{mutant.name}: {refused[-1]}")


def _ranked(mutant: Mutant, code: Mapping[Path, Code], before: str, after: str) -> list[Place]:
    """Places that are like enough, the likest first."""
    places = [p for one in code.values() for p in one.places(before, mutant.guard, after)]
    size = sum(len(tokens(part)) for part in (before, mutant.guard, after))
    alone = len(places) == 1 and size >= TELLING
    least = LEAST_ALIKE if size >= TELLING else LEAST_ALIKE_IF_SHORT
    like = [place for place in places if alone or place.alike >= least]
    return sorted(like, key=lambda place: _rank(place, Path(mutant.file)), reverse=True)


def _is_clear(ranked: Sequence[Place], mutant: Mutant) -> bool:
    first, second = (_rank(place, Path(mutant.file)) for place in ranked[:2])
    return first != second


def _rank(place: Place, said: Path) -> tuple[float, bool, bool]:
    """Whether the file is the same counts as much as a third of all names."""
    near = (place.file == said) + (place.file.stem == said.stem)
    return (place.alike + near / 6, place.file == said, place.file.stem == said.stem)


def line_of(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def without(mutant: Mutant, place: Place, text: str) -> str:
    """The text of the guard's file when the guard is gone."""
    gone = _renamed(mutant.gone, place.names)
    written = mutant.guard if _tells_indent(mutant.guard) else mutant.gone
    gone = _indented(gone, _column(text, place.begin) - _indent(written))
    return text[: place.begin] + gone.strip() + text[place.end :]


def _renamed(gone: str, names: Mapping[str, str]) -> str:
    """As the names are desired_name in the code now; those that the guard lacks keep theirs."""
    result, at = "", 0
    for token in tokens(gone):
        word = _name_now(token.text, names) if token.shape == "N" else token.text
        result += gone[at : token.begin] + word
        at = token.end
    return result + gone[at:]


def _name_now(name: str, names: Mapping[str, str]) -> str:
    """`names` may have it, or another that begins alike: `vm.ready` for `vm.ready` tells of
    `vm.down`, too."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        known = ".".join(parts[:length])
        if known in names:
            return ".".join((names[known], *parts[length:]))
        for former, now in names.items():
            if former.startswith(f"{known}.") and former.count(".") == now.count("."):
                return ".".join((*now.split(".")[:length], *parts[length:]))
    return name


def _column(text: str, offset: int) -> int:
    """How far the line is indented in which this offset lies."""
    line = text[text.rfind("\n", 0, offset) + 1 :]
    return len(line) - len(line.lstrip(" "))


def _tells_indent(guard: str) -> bool:
    return guard.startswith(" ") or "\n" in guard.strip()


def _indent(guard: str) -> int:
    """How far the guard's first line is indented; where that was left out, what follows from the second."""
    first, _, rest = guard.lstrip("\n").partition("\n")
    if first.startswith(" ") or not rest.strip():
        return len(first) - len(first.lstrip(" "))
    deeper = 4 if first.rstrip().endswith(":") else 0
    return len(rest) - len(rest.lstrip(" ")) - deeper


def _indented(gone: str, deeper: int) -> str:
    first, *rest = gone.split("\n")
    moved = [
        " " * max(0, len(line) - len(line.lstrip(" ")) + deeper) + line.lstrip(" ") for line in rest
    ]
    return "\n".join((first, *moved))
