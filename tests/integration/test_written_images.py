"""Images that we write ourselves, read by the kernel of a real guest."""

from __future__ import annotations

import hashlib
import random
import shutil
from pathlib import Path

import pytest

from reconciler.erofs.image_writer import SEGMENT, create
from reconciler.erofs.lz4 import Lz4
from tests.integration.test_stacks import Bench, Stacked, bench

__all__ = ["bench"]

pytestmark = [
    pytest.mark.integration,
    pytest.mark.stacks,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        shutil.which("qemu-system-x86_64") is None or shutil.which("apt-get") is None,
        reason="qemu-system-x86_64 or apt-get is missing",
    ),
]

DIGESTS = b"""\
#!/bin/sh
mkdir -p /tmp/www
cd /big && sha256sum * >/tmp/www/sums
readlink /link >/tmp/www/link
echo ok >/tmp/www/healthz
httpd -p 80 -h /tmp/www
"""
NOISE = random.Random(3).randbytes(2 * SEGMENT)  # noqa: S311 - the same in every run
TEXT = b"".join(b"line %d of some text\n" % number for number in range(150_000))
SIZES = (0, 1, 2049, 4096, 4097, 8192, 9121, SEGMENT - 1, SEGMENT + 1, 2 * SEGMENT)


@pytest.mark.parametrize("lz4", [True, False])
def test_a_guest_reads_every_byte_that_was_written(
    bench: Bench, tmp_path: Path, *, lz4: bool
) -> None:
    files = {f"{name}-{size}": content[:size] for size in SIZES
             for name, content in (("noise", NOISE), ("text", TEXT), ("zeros", bytes(2 * SEGMENT)))}  # fmt: skip
    files["mixed"] = TEXT[:SEGMENT] + NOISE[:SEGMENT] + bytes(9121)
    writer = create(tmp_path / "image", bytes(16), Lz4() if lz4 else None)
    writer.enter(b"big")
    for name, content in files.items():
        writer.file(name.encode(), content, program=False)
    writer.leave()
    writer.enter(b"etc")
    writer.file(b"rc.local", DIGESTS, program=True)
    writer.leave()
    writer.link(b"link", b"/big/mixed")
    writer.finish()
    guest = Stacked(bench, tmp_path / "guest", [bench.base, tmp_path / "image"])
    sums, link = guest.answers("sums", "link")
    wanted = {f"{hashlib.sha256(content).hexdigest()}  {name}" for name, content in files.items()}
    assert set(sums.splitlines()) == wanted
    assert link == "/big/mixed"
