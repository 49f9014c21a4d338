"""The guards around layers of Debian packages: what a manifest may name, what apt is given, who runs scripts."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

LAYER = "reconciler/model/layer_kinds/debian_layer.py"
ROOTS = "reconciler/image/debian_roots"

MUTANTS = (
    Mutant(
        "any archive may be named, whatever the host says",
        LAYER,
        "        if named and not any(_below(named, allowed) for allowed in policy.mirrors):\n",
        "        if named and not named:\n",
        ("tests/unit/model/test_debian_layer.py",),
    ),
    Mutant(
        "an archive whose address begins like an allowed one is allowed",
        LAYER,
        'named.startswith(f"{allowed}/")',
        "named.startswith(allowed)",
        ("tests/unit/model/test_debian_layer.py",),
    ),
    Mutant(
        "a package's name may end as a removal does",
        LAYER,
        'PACKAGE = r"^[a-z0-9][a-z0-9.+-]{0,98}[a-z0-9.+]$"',
        'PACKAGE = r"^[a-z0-9][a-z0-9.+-]{0,98}[a-z0-9.+-]$"',
        ("tests/unit/model/test_debian_layer.py",),
    ),
    Mutant(
        "a builder takes a request without the descriptors that belong to it",
        f"{ROOTS}/builder.py",
        "    if len(descriptors) != (2 if request.packages else 1):\n",
        "    if not descriptors:\n",
        ("tests/contract/test_debian_builder.py",),
    ),
    Mutant(
        "scripts of one archive reach the cache of another",
        f"{ROOTS}/builder.py",
        "    home.chmod(0o700)\n",
        "    home.chmod(0o711)\n",
        ("tests/contract/test_debian_builder.py",),
    ),
    Mutant(
        "a builder outlives who asked",
        f"{ROOTS}/builder.py",
        "        elif ready:\n            return None\n",
        "        elif ready:\n            poll.unregister(asked)\n",
        ("tests/contract/test_debian_builder.py",),
    ),
    Mutant(
        "what was mounted by a build that failed is emptied with its folder",
        f"{ROOTS}/bootstrap.py",
        "        user_namespace.detach_below(work)\n",
        "",
        ("tests/contract/test_debian_builder.py",),
    ),
    Mutant(
        "a changed file with its old times is left out",
        f"{ROOTS}/tree_difference.py",
        "        return self == other\n",
        "        return (self.inode, self.mode, self.owner) == (other.inode, other.mode, other.owner)\n",
        ("tests/unit/image/test_tree_difference.py",),
    ),
)
