"""Guards of the image store: what stays in it, and what rotted."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

STORE = ("tests/unit/image/test_store.py", "tests/unit/image/test_composed.py")
ROT = ("tests/unit/image/test_rot.py",)
SEEN = ("tests/scenario/test_image_store.py",)

MUTANTS = (
    Mutant(
        "what a newer plan names is collected",
        "reconciler/image/store.py",
        "named = pinned | self.inventory.named",
        "named = pinned | frozenset()",
        STORE,
    ),
    Mutant(
        "an image that rotted is used again",
        "reconciler/image/image_directory.py",
        "if meta.broken or key in self.broken:",
        'if meta.broken == "never" or key in ():',
        ROT,
    ),
    Mutant(
        "images that nothing names outgrow the bound",
        "reconciler/planning/preflight/collection.py",
        "return max(total - policy.store_max_mib * MIB, short_mib * MIB)",
        "return short_mib * MIB",
        SEEN,
    ),
    Mutant(
        "images that nothing names are kept while the disk gets short",
        "reconciler/planning/preflight/collection.py",
        "return max(total - policy.store_max_mib * MIB, short_mib * MIB)",
        "return total - policy.store_max_mib * MIB",
        SEEN,
    ),
)
