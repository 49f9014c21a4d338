"""The shape of the code in figures: `python -m tests.house` prints them, and a test holds their limits."""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "reconciler"
STILTED = re.compile(r"\b(told|nobody|somebody|whoever|anew|whom|shall|ails)\b", re.IGNORECASE)
PROSE = (
    "reconciler",
    "docs",
    "deploy",
    "demo",
    "manifests",
    "dashboards",
    "README.md",
    "CONTRIBUTING.md",
)
PROSE_SUFFIXES = {".py", ".md", ".yaml", ".sh", ".service", ".toml", ".jinja", ".html", ""}
IMAGE_TOOL = re.compile("qemu-(img|utils)")
"""A program that reads disk images for any VMM, and its package."""
SHORT = 50
"""Lines under which a file is a fragment."""

SAME_MODULE_NAMES = {
    "image": "what is booted or was built, and the layer input of ready images",
    "driver": "what a VMM's folder must have",
    "plan": "the values, and the command that shows them",
    "registry": "the kinds of one seam: VMMs, layer inputs, checks, sources, sinks",
    "status": "the values, and the command that shows them",
}
"""Names that several modules have, each with the reason: they mean one thing."""
SAME_CLASS_NAMES: Mapping[str, str] = {}


@dataclass(frozen=True)
class Figure:
    name: str
    value: float
    limit: float
    at_least: bool = False
    where: tuple[str, ...] = ()
    """What counts, for the person who has to bring the figure down."""

    @property
    def holds(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        mark = "" if self.holds else "   BROKEN"
        return f"{self.name:<58}{self.value:>7g}  {sign} {self.limit:g}{mark}"


class House:
    """One reading of the package's files."""

    def __init__(self, package: Path = PACKAGE) -> None:
        self.package = package
        self.texts = {
            path: path.read_text(encoding="utf-8") for path in sorted(package.rglob("*.py"))
        }
        self.trees = {path: ast.parse(text) for path, text in self.texts.items()}
        self.planning = package / "planning"

    def name(self, path: Path) -> str:
        return str(path.relative_to(self.package))

    @cached_property
    def modules(self) -> dict[str, Path]:
        """By dotted name, as `reconciler.planning.planner`."""
        return {dotted(path, self.package): path for path in self.texts}

    def imports(self, path: Path) -> Iterator[tuple[str, bool]]:
        """Modules of the package that a file imports at its top, and whether it imports a function bare."""
        for node in self.trees[path].body:
            if not isinstance(node, ast.ImportFrom) or not node.module:
                continue
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in self.modules:
                    yield whole, False
                elif node.module in self.modules:
                    yield node.module, alias.name.lstrip("_")[:1].islower()

    @cached_property
    def arrows(self) -> set[tuple[str, str]]:
        """Between rooms of planning: its folders, and its single files."""
        found = set()
        for path in self.texts:
            if self.planning in path.parents:
                here = self.room(path)
                for module, _ in self.imports(path):
                    target = self.modules[module]
                    if self.planning in target.parents and self.room(target) != here:
                        found.add((here, self.room(target)))
        return found

    @cached_property
    def rooms(self) -> set[str]:
        found = {self.room(path) for path in self.texts if self.planning in path.parents}
        return found - {"__init__"}

    def room(self, path: Path) -> str:
        return path.relative_to(self.planning).parts[0].removesuffix(".py")

    @cached_property
    def circles(self) -> list[tuple[str, ...]]:
        """Groups of modules that import each other at their top."""
        graph = {
            module: {target for target, _ in self.imports(path) if target != module}
            for module, path in self.modules.items()
        }
        return strongly_connected(graph)

    @cached_property
    def bare_imports(self) -> list[str]:
        """Functions that files of planning import from one another without their module."""
        return [
            f"{self.name(path)} <- {module}"
            for path in self.texts
            if self.planning in path.parents
            for module, bare in self.imports(path)
            if bare and module.startswith("reconciler.planning.")
        ]

    @cached_property
    def twice_named_modules(self) -> dict[str, list[str]]:
        return repeated(
            (path.stem, self.name(path)) for path in self.texts if path.stem != "__init__"
        )

    @cached_property
    def twice_named_classes(self) -> dict[str, list[str]]:
        return repeated(
            (node.name, self.name(path))
            for path, tree in self.trees.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
        )

    @cached_property
    def action_files(self) -> dict[str, list[str]]:
        """By action, the files whose code names it."""
        unions = {
            ast.unparse(node.targets[0]): {
                n.id for n in ast.walk(node.value) if isinstance(n, ast.Name)
            }
            for node in self.trees[self.package / "model/actions.py"].body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp)
        }
        actions = set[str]().union(*unions.values()) - unions.keys()
        named = {self.name(path): names(tree) for path, tree in self.trees.items()}
        return {
            action: [file for file, found in named.items() if action in found] for action in actions
        }

    @cached_property
    def qemu_lines(self) -> list[str]:
        return [
            f"{self.name(path)}:{number}"
            for path, text in self.texts.items()
            if "vmm/qemu" not in self.name(path)
            for number, line in enumerate(text.splitlines(), 1)
            if "qemu" in IMAGE_TOOL.sub("", line.lower())
        ]

    @cached_property
    def registered(self) -> set[Path]:
        """Files of the kinds that registries list, of which each kind must have its own.

        A registry imports them from its room; of a kind with a folder, all files of the folder.
        """
        found = set()
        for path in self.texts:
            if path.stem == "registry":
                own = {self.modules[module] for module, _ in self.imports(path)}
                own = {file for file in own if path.parent in file.parents}
                folders = {file.parent for file in own} - {path.parent}
                found |= own | {file for file in self.texts if file.parent in folders}
        return found

    @cached_property
    def short_files(self) -> list[str]:
        """Fragments: short files that could be part of another one."""
        return [
            self.name(path)
            for path, text in self.texts.items()
            if path.stem != "__init__"
            and path not in self.registered
            and len(text.splitlines()) < SHORT
        ]

    @cached_property
    def function_p90(self) -> int:
        """Lines of a function, of which nine in ten have no more."""
        lengths = sorted(
            (node.end_lineno or node.lineno) - node.lineno + 1
            for tree in self.trees.values()
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        )
        return lengths[len(lengths) * 9 // 10]

    @cached_property
    def silent(self) -> dict[str, bool]:
        """Every public class, function and method by its place, and whether it has no docstring."""
        return {
            f"{self.name(path)}:{node.lineno}": not ast.get_docstring(node)
            for path, tree in self.trees.items()
            for node in public(tree.body)
        }

    @cached_property
    def stilted(self) -> list[str]:
        return [
            f"{path.relative_to(self.package.parent)}:{number}"
            for path in prose(self.package.parent)
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
            for _ in STILTED.findall(line)
        ]

    def figures(self) -> list[Figure]:
        silent = [place for place, without in self.silent.items() if without]
        documented = 100 * (1 - len(silent) / len(self.silent))
        most = max(self.action_files, key=lambda action: len(self.action_files[action]))
        return [
            Figure("rooms of planning", len(self.rooms), 14, where=tuple(sorted(self.rooms))),
            Figure("arrows between rooms of planning", len(self.arrows), 36),
            Figure("import circles", len(self.circles), 0, where=tuple(map(str, self.circles))),
            Figure("functions imported bare in planning", len(self.bare_imports), 0, where=tuple(self.bare_imports)),
            Figure("module names that several modules have", len(self.twice_named_modules), 6, where=tuple(map(str, self.twice_named_modules.items()))),
            Figure("class names that several classes have", len(self.twice_named_classes), 3, where=tuple(map(str, self.twice_named_classes.items()))),
            Figure(f"files that name one action (most: {most})", len(self.action_files[most]), ACTION_FILES, where=tuple(self.action_files[most])),
            Figure("lines outside of vmm/qemu that name qemu", len(self.qemu_lines), QEMU_LINES, where=tuple(self.qemu_lines)),
            Figure(f"files under {SHORT} lines that no registry lists", len(self.short_files), SHORT_FILES, where=tuple(self.short_files)),
            Figure("lines of a function, nine in ten", self.function_p90, 19),
            Figure("public names with a docstring, percent", round(documented, 1), DOCUMENTED, at_least=True, where=tuple(silent)),
            Figure("stilted words", len(self.stilted), STILTED_WORDS, where=tuple(self.stilted)),
        ]  # fmt: skip


ACTION_FILES = 4
QEMU_LINES = 8
SHORT_FILES = 25
DOCUMENTED = 89.0
STILTED_WORDS = 80


def names(tree: ast.Module) -> set[str]:
    """What code calls things; words in comments and docstrings do not count."""
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    return own | {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def dotted(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def repeated(places: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    by_name: defaultdict[str, list[str]] = defaultdict(list)
    for name, place in places:
        by_name[name].append(place)
    return {name: found for name, found in by_name.items() if len(found) > 1}


def public(
    body: Iterable[ast.stmt],
) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Those of a module, and the methods of its public classes."""
    for node in body:
        match node:
            case (
                ast.ClassDef(name=name)
                | ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
            ):
                if name.startswith("_"):
                    continue
                yield node
                if isinstance(node, ast.ClassDef):
                    yield from public(node.body)
            case _:
                pass


def prose(root: Path) -> Iterator[Path]:
    for name in PROSE:
        path = root / name
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file() and file.suffix in PROSE_SUFFIXES and "__pycache__" not in file.parts:
                yield file


def strongly_connected(graph: Mapping[str, set[str]]) -> list[tuple[str, ...]]:
    """Sets of nodes that reach each other, of two nodes or more (Kosaraju's algorithm)."""
    order: list[str] = []
    walk(graph, list(graph), order.append)
    reverse: defaultdict[str, set[str]] = defaultdict(set)
    for node, targets in graph.items():
        for target in targets:
            reverse[target].add(node)
    found: list[tuple[str, ...]] = []
    seen: set[str] = set()
    for start in reversed(order):
        group: list[str] = []
        walk(reverse, [start], group.append, seen)
        if len(group) > 1:
            found.append(tuple(sorted(group)))
    return found


def walk(
    graph: Mapping[str, set[str]],
    starts: Iterable[str],
    leave: Callable[[str], object],
    seen: set[str] | None = None,
) -> None:
    """Depth first, without recursion: `leave` gets each node after all that it leads to."""
    seen = set() if seen is None else seen
    for start in starts:
        stack = [(start, False)]
        while stack:
            node, done = stack.pop()
            if done:
                leave(node)
            elif node not in seen:
                seen.add(node)
                stack.append((node, True))
                stack.extend(
                    (target, False) for target in graph.get(node, ()) if target not in seen
                )


def main() -> int:
    figures = House().figures()
    for figure in figures:
        print(figure)  # noqa: T201 - a person reads it
        if not figure.holds:
            for place, times in Counter(figure.where).items():
                print(f"    {place}" + (f" x{times}" if times > 1 else ""))  # noqa: T201 - likewise
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    raise SystemExit(main())
