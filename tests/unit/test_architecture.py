"""The shape of the code, held by tests where no linter holds it."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_LINES = 400
SHAPELESS = {"base", "common", "core", "helper", "helpers", "misc", "util", "utils"}
SHELLS = {
    "asyncio.create_subprocess_shell",
    "os.popen",
    "os.system",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
}

# Joined here, so that this file does not name what it forbids.
REGISTRIES = [
    ".".join(labels)
    for labels in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("deb", "debian", "org"),
        ("security", "debian", "org"),
        ("archive", "ubuntu", "com"),
        ("registry", "npmjs", "org"),
        ("crates", "io"),
        ("proxy", "golang", "org"),
    )
]
A_REGISTRY = re.compile("|".join(map(re.escape, REGISTRIES)), re.IGNORECASE)
A_MACHINE_PATH = re.compile(r"(?<![\w.}-])/(?:work|root)/")
IN_THE_GUEST = (
    ROOT / "reconciler/image/guest"
)  # paths there are of the guest, where /root is a mount


def tracked_files() -> list[Path]:
    """Return the files of this checkout, with new ones that are about to be added."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def python_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def starts_a_shell(call: ast.Call) -> bool:
    return ast.unparse(call.func) in SHELLS or any(
        keyword.arg == "shell"
        and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
        for keyword in call.keywords
    )


def test_every_module_opens_with_a_docstring() -> None:
    silent = [
        relative(path)
        for path in python_files("reconciler", "demo")
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_no_file_is_too_long_to_read_in_one_sitting() -> None:
    long = {
        relative(path): lines
        for path in [*python_files("reconciler", "demo", "tests"), ROOT / "dev"]
        if (lines := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert long == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    shapeless = [
        relative(path)
        for path in python_files("reconciler", "demo", "tests")
        if SHAPELESS & {part.strip("_") for part in path.relative_to(ROOT).with_suffix("").parts}
    ]
    assert shapeless == []


def test_the_tree_of_errors_names_each_of_them() -> None:
    tree = ast.parse((ROOT / "reconciler/errors.py").read_text())
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    drawn = set(
        re.findall(r"^(?:[│├└─ ]*)([A-Z]\w+)  ", ast.get_docstring(tree) or "", re.MULTILINE)
    )
    assert drawn == classes - {"Problem"}


def test_no_child_is_started_through_a_shell() -> None:
    through_a_shell = [
        f"{relative(path)}:{node.lineno}"
        for path in python_files("reconciler", "demo", "tests")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and starts_a_shell(node)
    ]
    assert through_a_shell == []


def test_imports_keep_to_the_contracts() -> None:
    linted = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr


def places(pattern: re.Pattern[str], files: list[Path]) -> list[str]:
    return [
        f"{relative(path)}:{number}: {match[0]}"
        for path in files
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if (match := pattern.search(line))
    ]


def test_no_file_names_a_package_registry() -> None:
    assert places(A_REGISTRY, tracked_files()) == []


def test_no_file_names_a_path_of_one_machine() -> None:
    outside = [path for path in tracked_files() if not path.is_relative_to(IN_THE_GUEST)]
    assert places(A_MACHINE_PATH, outside) == []
