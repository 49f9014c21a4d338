"""The guards around the program of an image, and around what an initrd must be able to do for it."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

PART = "reconciler/image/program_part.py"
TESTS = ("tests/unit/image/test_program_part.py",)

MUTANTS = (
    Mutant(
        "an argument of an image may have a NUL in it",
        PART,
        '    if "\\0" in text:\n',
        '    if text == "\\0":\n',
        TESTS,
    ),
    Mutant(
        "the arguments of an image may be of any size together",
        PART,
        "sum(sizes) > MOST_BYTES",
        "sum(sizes) < 0",
        TESTS,
    ),
    Mutant(
        "a variable of an image may have no name",
        PART,
        '    if entry.find("=") < 1:\n',
        '    if entry.find("=") < 0:\n',
        TESTS,
    ),
    Mutant(
        "a guest may get an initrd that cannot start it",
        "reconciler/model/image.py",
        "                if source.contract > 1:\n",
        "                if source.contract > 2:\n",
        ("tests/unit/image/test_kernel_parts.py",),
    ),
)
