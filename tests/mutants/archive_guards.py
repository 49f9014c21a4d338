"""The guards around tars: what can never be a layer, and how much one may take."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

TREES = ("tests/unit/image/archive/test_layer_tree.py",)
STREAMS = ("tests/unit/image/archive/test_archive_stream.py",)
IMAGES = ("tests/unit/image/archive/test_tar_images.py",)
STACKS = ("tests/unit/image/archive/test_contents.py",)
TREE = "reconciler/image/archive/layer_tree.py"

MUTANTS = (
    Mutant(
        "a path of a tar may lead out",
        TREE,
        '        if b".." in components:\n',
        '        if b".." == components:\n',
        TREES,
    ),
    Mutant(
        "a path of a tar may lead through a symlink",
        TREE,
        '        if here and there is not None and there.kind != "folder":\n',
        '        if here and there is not None and there.kind == "fifo":\n',
        TREES,
    ),
    Mutant(
        "a whiteout hides what its own layer has",
        TREE,
        "            self.hidden.discard(path)\n",
        "            self.paths[path] = HIDDEN\n",
        TREES,
    ),
    Mutant(
        "a new folder shows what was in the one that it replaces",
        TREE,
        '            if there.kind == "folder":\n                self.opaque.add(path)\n',
        '            if there.kind == "fifo":\n                self.opaque.add(path)\n',
        TREES,
    ),
    Mutant(
        "an overlay's notes of another host are packed",
        TREE,
        "and (not key.startswith(OVERLAY) or (key, value) == OPAQUE)",
        "and (key.startswith(KEPT_XATTRS) or (key, value) == OPAQUE)",
        TREES,
    ),
    Mutant(
        "a tar may have entries without end",
        TREE,
        "        if self._entries > self._limits.entries:\n",
        "        if self._entries < 0:\n",
        TREES,
    ),
    Mutant(
        "a tar's digest is not compared",
        "reconciler/image/archive/packing.py",
        '    if digest is not None and digest != f"sha256:{found}":\n',
        '    if digest is not None and digest == f"md5:{found}":\n',
        IMAGES,
    ),
    Mutant(
        "a tar may change between check and packing",
        "reconciler/image/archive/packing.py",
        "    if stream.finish() != digest:\n",
        "    if not stream.finish():\n",
        IMAGES,
    ),
    Mutant(
        "a tar that is cut off between two entries is whole",
        "reconciler/image/archive/packing.py",
        "    if digest is None and not entries.ended:\n",
        "    if digest is None and not entries:\n",
        STREAMS,
    ),
    Mutant(
        "a bomb is unpacked to its end",
        "reconciler/image/archive/stream.py",
        "                if size > self._most_bytes:\n",
        "                if size < 0:\n",
        STREAMS,
    ),
    Mutant(
        "a header may be as large as it says",
        "reconciler/image/archive/headers.py",
        "        if size < 0 or self._allowed < 0:\n",
        "        if size < 0:\n",
        STREAMS,
    ),
    Mutant(
        "pax records are read before they are looked at",
        "reconciler/image/archive/headers.py",
        "            tar.fileobj.check_records(self.size)\n",
        "            pass\n",
        STREAMS,
    ),
    Mutant(
        "a layer's files land in a folder where a lower layer has a symlink",
        "reconciler/image/archive/contents.py",
        "        if path in layer.symlinks and implied:\n",
        "        if path in layer.symlinks and not path:\n",
        STACKS,
    ),
)
