"""The guards around OCI images: whose images may run here, what is believed of them, and what is fetched."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

PULLS = ("tests/unit/image/oci/test_pull.py",)
HOSTILE = ("tests/unit/image/oci/test_hostile.py",)
LAYOUTS = ("tests/unit/image/oci/test_layouts.py",)
MODEL = ("tests/unit/model/test_oci_layer.py",)

MUTANTS = (
    Mutant(
        "an image of any registry is allowed",
        "reconciler/model/layer_kinds/oci_layer.py",
        "        if self.repository and not allowed(self.repository, policy.registries):\n",
        "        if self.repository and not self.digest:\n",
        MODEL,
    ),
    Mutant(
        "a path of the host is allowed whatever its policy says",
        "reconciler/model/host_paths.py",
        "    if is_below(path, folders):\n",
        "    if path:\n",
        MODEL,
    ),
    Mutant(
        "a tag alone is taken",
        "reconciler/model/layer_kinds/oci_layer.py",
        "        elif self.resolve is None:\n",
        '        elif self.resolve == "never":\n',
        MODEL,
    ),
    Mutant(
        "a manifest or config is believed whatever its digest",
        "reconciler/image/oci/image_fetch.py",
        "    if forms.sha256_of(content) != digest:\n",
        "    if not content:\n",
        (*HOSTILE, *LAYOUTS),
    ),
    Mutant(
        "a blob is believed whatever its digest",
        "reconciler/image/oci/image_fetch.py",
        '    if f"sha256:{digest.hexdigest()}" != layer.digest:\n',
        "    if not digest:\n",
        LAYOUTS,
    ),
    Mutant(
        "a blob of another size than declared is taken",
        "reconciler/image/oci/image_fetch.py",
        "    if size != layer.size:\n",
        "    if not size:\n",
        HOSTILE,
    ),
    Mutant(
        "a known layer is fetched again",
        "reconciler/image/oci/registry_pull.py",
        "        (folder / name_of(digest)).touch()\n",
        "        name_of(digest)\n",
        PULLS,
    ),
    Mutant(
        "a registry that sends nothing any more is waited for",
        "reconciler/image/oci/registry_pull.py",
        "if not task.done() and loop.time() - since > self._patience.stalled:",
        "if not task.done() and loop.time() - since > self._patience.all:",
        HOSTILE,
    ),
    Mutant(
        "credentials that everyone can read are used",
        "reconciler/image/oci/skopeo.py",
        "place, 2, LONGEST_CREDENTIALS, private=True,",
        "place, 2, LONGEST_CREDENTIALS, private=False,",
        PULLS,
    ),
    Mutant(
        "an image of another platform is taken",
        "reconciler/image/oci/image_manifest.py",
        "    if not matches(made_for, platform) and not matches(platform, made_for):\n",
        "    if not made_for and not platform:\n",
        PULLS,
    ),
    Mutant(
        "a layer that is had elsewhere is fetched from there",
        "reconciler/image/oci/image_manifest.py",
        "        if layer.urls or layer.media_type not in LAYERS:\n",
        "        if layer.media_type not in LAYERS:\n",
        ("tests/unit/image/oci/test_manifest.py",),
    ),
    Mutant(
        "an archive of the host is read where another user may change it",
        "reconciler/image/oci/archive_file.py",
        "        archive = own\n",
        "        del own\n",
        LAYOUTS,
    ),
    Mutant(
        "a part that failed for one image has failed for all that wait for it",
        "reconciler/image/single_flight.py",
        "                if not within:\n",
        "                if key:\n",
        ("tests/unit/image/test_oci_input.py",),
    ),
    Mutant(
        "numbers of a device are written for what is none",
        "reconciler/image/archive/headers.py",
        '(found.devmajor, found.devminor) if kind in ("char", "block") else (0, 0),',
        "(found.devmajor, found.devminor),",
        ("tests/unit/image/archive/test_layer_tree.py",),
    ),
)
