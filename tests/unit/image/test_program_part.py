"""The program of an image as our init for it reads it, by the busybox or another shell of this host."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from reconciler.errors import BuildFailed
from reconciler.image.inputs.busybox import GUEST
from reconciler.image.program_part import (
    DEFAULT_PATH,
    HOME,
    INITS,
    MOST_BYTES,
    MOST_WORD_BYTES,
    MOST_WORDS,
    FolderEntry,
    ProgramSpec,
    description,
    signal_number,
    write_program,
)
from reconciler.model.names import digest_of

SHELL = shutil.which("busybox") or "/bin/sh"
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
VARIABLES = st.tuples(st.from_regex(r"[^=\0\ud800-\udfff]+", fullmatch=True), WORDS).map("=".join)
SHOWING = (
    '. "$0"; show() { printf "%s\\0" "$@"; };'
    ' show "$user" "$directory" "$path" "$stop" "$command";'
    " with_environment show; with_arguments show"
)


def read_back(spec: ProgramSpec, folder: Path) -> list[str]:
    """What a shell that is given the description has: five words, the environment, the arguments."""
    path = folder / "program"
    path.write_bytes(description(spec))
    argv = [SHELL, "sh", "-c"] if SHELL.endswith("busybox") else [SHELL, "-c"]
    shown = subprocess.run(
        [*argv, SHOWING, str(path)], check=True, capture_output=True, timeout=20
    ).stdout
    return shown.decode().removesuffix("\0").split("\0")


@settings(max_examples=40, deadline=None)
@given(argv=st.lists(WORDS, max_size=4), env=st.lists(VARIABLES, max_size=4))
def test_a_shell_reads_every_word_exactly(
    tmp_path_factory: pytest.TempPathFactory, argv: list[str], env: list[str]
) -> None:
    spec = ProgramSpec.of(entrypoint=["/app", *argv], env=env, user="www:33", working_dir="/a b")
    assert read_back(spec, tmp_path_factory.mktemp("words"))[5:] == [
        *(env or [""]),
        *(argv or [""]),
    ]


def test_what_the_image_leaves_out_is_what_container_engines_take(tmp_path: Path) -> None:
    spec = ProgramSpec.of(cmd=["nginx", "-g", "daemon off;"])
    assert read_back(spec, tmp_path)[:5] == ["", "/", DEFAULT_PATH, "15", "nginx"]
    own = ProgramSpec.of(
        cmd=["nginx"], env=["PATH=/old", "A=b", "PATH=/opt/bin"], working_dir="srv"
    )
    assert read_back(own, tmp_path)[:5] == ["", "/srv", "/opt/bin", "15", "nginx"]


def test_the_command_follows_the_entrypoint() -> None:
    spec = ProgramSpec.of(entrypoint=["/entry.sh", ""], cmd=["run", "it's"])
    assert spec.argv == ("/entry.sh", "", "run", "it's")


@pytest.mark.parametrize(
    ("text", "number"),
    [("SIGQUIT", 3), ("quit", 3), ("15", 15), ("9", 9), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("RTMIN", 34)],
)  # fmt: skip
def test_a_stop_signal_is_read_as_a_name_or_a_number(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize(
    "text", ["SIGNOTHING", "0", "65", "-1", "SIGTERM+1", "RTMIN+31", "DFL", "_", "\uff19"]
)
def test_a_stop_signal_that_linux_has_not_is_refused(text: str) -> None:
    with pytest.raises(BuildFailed, match="is no signal of Linux"):
        signal_number(text)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "names no program"),
        ({"entrypoint": [""]}, "names no program"),
        ({"cmd": ["a\0b"]}, "has a NUL"),
        ({"cmd": ["a\ud800"]}, "is no Unicode text"),
        ({"cmd": ["a"], "env": ["WORD"]}, "is not NAME=VALUE"),
        ({"cmd": ["a"], "env": ["=word"]}, "is not NAME=VALUE"),
        ({"cmd": ["a"], "user": "a:b:c"}, "is not USER or USER:GROUP"),
        ({"cmd": ["a"], "user": "a\nb"}, "is not USER or USER:GROUP"),
        ({"cmd": ["a"], "user": "99999999999"}, "at most 2147483647"),
        ({"cmd": ["a"], "working_dir": "/\0"}, "has a NUL"),
        ({"cmd": ["a" * (MOST_WORD_BYTES + 1)]}, "the longest of"),
        ({"cmd": ["a"] * (MOST_WORDS + 1)}, "arguments and variables of"),
        ({"cmd": ["a" * MOST_WORD_BYTES] * (MOST_BYTES // MOST_WORD_BYTES + 1)}, "arguments and variables of"),
    ],
)  # fmt: skip
def test_a_program_that_cannot_be_run_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(BuildFailed, match=said):
        ProgramSpec.of(**given)  # type: ignore[arg-type]  # one argument after the other


def test_a_number_of_a_user_has_one_form_only() -> None:
    assert ProgramSpec.of(cmd=["a"], user="0033:007").user == "33:7"


def test_equal_programs_have_equal_keys_and_others_have_not() -> None:
    first = ProgramSpec.of(entrypoint=["/app"], cmd=["x"])
    same = ProgramSpec.of(cmd=["/app", "x"], working_dir="/", stop_signal="TERM")
    other = ProgramSpec.of(cmd=["/app", "x"], stop_signal="INT")
    keys = [digest_of(spec.key_inputs) for spec in (first, same, other)]
    assert keys[0] == keys[1] != keys[2]


def test_the_part_is_one_tar_of_a_folder_that_no_image_has(tmp_path: Path) -> None:
    busybox = tmp_path / "busybox"
    busybox.write_bytes(b"\x7fELF")
    folders = [FolderEntry("srv/app", 0o2770, 33, 44, 1), FolderEntry("", 0o711, 0, 0)]
    spec = ProgramSpec.of(cmd=["/app"])
    size = write_program(spec, tmp_path / "one.tar", busybox, folders)
    write_program(spec, tmp_path / "two.tar", busybox, folders)
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as tar:
        entries = {entry.name: entry for entry in tar}
    assert size == (tmp_path / "one.tar").stat().st_size
    assert {name for name in entries if not name.startswith(".reconciler")} == {".", "srv/app"}
    assert (entries["."].mode, entries["srv/app"].mode) == (0o711, 0o2770)
    assert (entries["srv/app"].uid, entries["srv/app"].gid) == (33, 44)
    names = list(entries)
    for name in names[1:]:
        parent = name.rpartition("/")[0]
        assert not parent or parent == "srv" or names.index(parent) < names.index(name)
    assert all(
        entries[f".reconciler/{name}"].mode == 0o755 for name in ("init", "launch", "bin/busybox")
    )
    assert entries[".reconciler/bin/nsenter"].linkname == "busybox"


@pytest.mark.parametrize(
    ("argv", "user", "ours"),
    [
        (["/sbin/init"], "", 0),
        (["/usr/lib/systemd/systemd"], "root", 0),
        (["/sbin/openrc-init"], "0", 0),
        (["/sbin/init", "--once"], "", 1),
        (["/sbin/init"], "www", 1),
        (["/usr/bin/init"], "", 1),
    ],
)
def test_an_image_s_own_init_is_not_run_by_ours(
    argv: list[str], user: str, ours: int, tmp_path: Path
) -> None:
    spec, busybox = ProgramSpec.of(cmd=argv, user=user), tmp_path / "busybox"
    busybox.write_bytes(b"busybox")
    listed = FolderEntry("var", 0o1777, 0, 0)
    write_program(spec, tmp_path / "part.tar", busybox, (listed,))
    with tarfile.open(tmp_path / "part.tar") as tar:
        names = tar.getnames()
    assert "var" in names
    assert names.count(f"{HOME}/init") == names.count(f"{HOME}/bin/busybox") == ours


def test_our_initrd_looks_for_every_init_that_is_left_to_it() -> None:
    looked_for = (GUEST / "initrd/init").read_text(encoding="utf-8").split()
    assert set(looked_for) >= INITS
