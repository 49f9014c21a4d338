"""What a manifest may say of a ready image, and where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.config import PolicyConfig
from reconciler.errors import ManifestErrors
from reconciler.model.desired import VMSpec
from reconciler.model.layer_kinds.image_layer import ImageSource
from reconciler.model.names import VMName
from reconciler.source.manifests.folder import load_folder
from tests.unit.source.repositories import vm

SHA256 = "ab" * 32
POLICY = PolicyConfig(host_paths=["/srv/images"], image_urls=["https://images.example.org/pub/*"])


def resolved(folder: Path, text: str, policy: PolicyConfig | None = POLICY) -> VMSpec:
    (folder / "a.yaml").write_text(vm("a", layers=f"[image: {{{text}}}]"))
    state, _ = load_folder(folder, policy)
    return state.vms[VMName("a")]


def problem_of(folder: Path, text: str, policy: PolicyConfig | None = POLICY) -> str:
    with pytest.raises(ManifestErrors) as caught:
        resolved(folder, text, policy)
    (problem,) = caught.value.problems
    return str(problem)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        (
            f"path: /srv/images/a.erofs, sha256: {SHA256}",
            ImageSource(SHA256, "/srv/images/a.erofs"),
        ),
        (
            f"url: https://images.example.org/pub/a?b=c, sha256: {SHA256}, size: 5, format: ext4",
            ImageSource(SHA256, url="https://images.example.org/pub/a?b=c", size=5, format="ext4"),
        ),
    ],
)
def test_an_image_is_a_layer_without_another(
    tmp_path: Path, text: str, source: ImageSource
) -> None:
    assert [one.source for one in resolved(tmp_path, text).layers] == [source]


def test_where_a_file_lies_changes_no_digest(tmp_path: Path) -> None:
    digests = set()
    for place in (
        "path: /srv/images/a",
        "path: /srv/images/b",
        "url: https://images.example.org/pub/a",
    ):
        digests.add(resolved(tmp_path, f"{place}, sha256: {SHA256}").digest)
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"sha256: {SHA256}", "the place of an image is exactly one of path, url"),
        (f"path: /srv/images/a, url: https://x/y, sha256: {SHA256}", "exactly one of path, url"),
        ("path: /srv/images/a", "layers[0].image.sha256 is missing"),
        ("path: /srv/images/a, sha256: AB", 'sha256: "AB" is not well formed (64 lower-case hex'),
        (f"path: images/a, sha256: {SHA256}", 'path: "images/a" is not well formed'),
        (f"path: /srv/images/a, sha256: {SHA256}, size: 0", "size: 0 is too small"),
        (f"path: /srv/images/a, sha256: {SHA256}, size: 99999999999999", "is too large"),
        (f"path: /srv/images/a, sha256: {SHA256}, format: xfs", "is not one of: erofs, squashfs, ext4"),
        (f'url: "https://u:p@x/y", sha256: {SHA256}', "is not well formed (an https:// URL without user"),
        (f"url: ftp://x/y, sha256: {SHA256}", "is not well formed"),
        (f"path: /etc/passwd, sha256: {SHA256}", "image.path: /etc/passwd is not below a host path"),
        (f"path: /srv/images/../x, sha256: {SHA256}", "is not below a host path that the policy allows"),
        (f"path: /srv/imagesX/x, sha256: {SHA256}", "(policy.host_paths allows: /srv/images)"),
        (
            f"url: https://images.example.org/x?token=abc, sha256: {SHA256}",
            "org/x is not allowed by the host's policy (policy.image_urls allows: https://images.example.org/pub/*)",
        ),
        (f"url: http://127.0.0.1/x, sha256: {SHA256}", "is not allowed by the host's policy"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_at_its_place(tmp_path: Path, text: str, says: str) -> None:
    problem = problem_of(tmp_path, text)
    assert problem.startswith("a.yaml:5:")
    assert says in problem


def test_by_default_a_host_allows_no_image(tmp_path: Path) -> None:
    text = f"url: https://images.example.org/pub/a, sha256: {SHA256}"
    problem = problem_of(tmp_path, text, None)
    assert "(policy.image_urls allows: none)" in problem
