"""Objects of git by their bytes: modes of old tools, and commits whose lines about people say anything."""

from __future__ import annotations

import pytest

from reconciler.git_objects import (
    FILE,
    LINK,
    PROGRAM,
    SUBMODULE,
    TREE,
    UNKNOWN,
    MalformedObject,
    commit_of,
    entries_of,
    mode_of,
    target_of,
)

pytestmark = pytest.mark.shows(fault=105)

OID = bytes(range(20))
ID = "ab" * 20


@pytest.mark.parametrize(
    ("written", "mode"),
    [
        (b"40000", TREE), (b"040000", TREE), (b"40755", TREE), (b"40775", TREE), (b"00000040000", TREE),
        (b"100644", FILE), (b"100664", FILE), (b"100600", FILE), (b"100444", FILE), (b"100000", FILE),
        (b"100755", PROGRAM), (b"100700", PROGRAM), (b"100655", FILE), (b"0100755", PROGRAM),
        (b"120000", LINK), (b"120777", LINK), (b"160000", SUBMODULE), (b"160755", SUBMODULE),
        (b"0", UNKNOWN), (b"644", UNKNOWN), (b"60000", UNKNOWN), (b"20000", UNKNOWN), (b"140000", UNKNOWN),
        (b"10000", UNKNOWN), (b"170000", UNKNOWN), (b"1000000", UNKNOWN), (b"77777777777", UNKNOWN),
    ],
)  # fmt: skip
def test_a_mode_is_what_git_takes_it_for(written: bytes, mode: bytes) -> None:
    assert mode_of(written) == mode
    assert entries_of(written + b" name\0" + OID) == [(mode, b"name", OID)]


@pytest.mark.parametrize(
    "raw",
    [b"40000 a\0" + OID[:19], b" a\0" + OID, b"40000 \0" + OID, b"4000x a\0" + OID, b"40000 a" + OID[1:],
     b"8 a\0" + OID, b"100644 a\0" + OID + b"x", b"000000000000 a\0" + OID],
)  # fmt: skip
def test_what_has_not_the_form_of_a_tree_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedObject):
        entries_of(raw)


@pytest.mark.parametrize(
    ("person", "time"),
    [
        (b"A <a@b> 12 +0000", 12), (b"A a@b> 12 +0000", 12), (b"A <a@b> -12 +0000", -12), (b"", 0),
        (b"A <a@b>", 0), (b"A <a@b> x", 0), (b"12", 0), (b"A <a@b> 99999999999999999999999 +0000", 0),
        (b"\xff <> 7 zz", 7), (b"A <a> <b> 9", 9),
    ],
)  # fmt: skip
def test_a_commit_is_read_whatever_its_people_are_called(person: bytes, time: int) -> None:
    raw = f"tree {ID}\nparent {ID}\nparent {'cd' * 20}\n".encode()
    found = commit_of(raw + b"author " + person + b"\ncommitter " + person + b"\n\nwords\n\nmore")
    assert (found.tree, found.parents) == (ID, (ID, "cd" * 20))
    assert (found.authored, found.committed, found.message) == (time, time, b"words\n\nmore")


def test_a_commit_without_people_is_one_and_one_without_a_tree_is_none() -> None:
    assert commit_of(f"tree {ID}\n\nwords".encode()).parents == ()
    for raw in (b"", b"tree 12\n", f"parent {ID}\n".encode(), f"tree {ID}".encode()):
        with pytest.raises(MalformedObject):
            commit_of(raw)
    assert target_of(f"object {ID}\ntype commit\ntag x\ntagger nobody\n".encode()) == ID
    with pytest.raises(MalformedObject):
        target_of(b"type commit\n")
