"""What kernels and modules are packed with, unpacked; by a program where Python has no decoder."""

from __future__ import annotations

import gzip
import io
import lzma
import subprocess
import threading
from pathlib import Path

from reconciler.errors import BuildUnavailable

# By how the packed data begins. `lz4` is the legacy frame, which kernels are packed with.
PROGRAMS = {b"\x02\x21\x4c\x18": "lz4", b"\x28\xb5\x2f\xfd": "zstd"}
GZIP, XZ = b"\x1f\x8b\x08", b"\xfd7zXZ"
SECONDS = 60.0
MOST_BYTES = 512 << 20


def decompress(packed: bytes, scratch: Path) -> bytes:
    """Unpack in a thread of the caller's; the form is told by the data.

    Raises BuildUnavailable for an unknown form, a missing program, or too much.
    """
    try:
        if packed.startswith(GZIP):
            return _whole(gzip.GzipFile(fileobj=io.BytesIO(packed)))
        if packed.startswith(XZ):
            return _whole(lzma.LZMAFile(io.BytesIO(packed)))
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise BuildUnavailable(f"packed data is broken: {error}") from error
    program = PROGRAMS.get(packed[:4])
    if program is None:
        raise BuildUnavailable(f"packed in an unknown form: {packed[:4].hex()}")
    file = scratch / "packed"
    file.write_bytes(packed)
    return _by_program(program, file)


def _whole(unpacking: gzip.GzipFile | lzma.LZMAFile) -> bytes:
    content = unpacking.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise BuildUnavailable(f"unpacked it is larger than {MOST_BYTES >> 20} MiB")
    return content


def _by_program(program: str, file: Path) -> bytes:
    argv = (program, "-d", "-c", "-q", str(file))
    try:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError as error:
        raise BuildUnavailable(
            f"{program}: could not be started: {error.strerror}",
            kind="missing-program",
            hint=f"apt-get install {program}",
        ) from error
    deadline = threading.Timer(SECONDS, child.kill)
    deadline.start()
    with child:
        content = child.stdout.read(MOST_BYTES + 1) if child.stdout else b""
        if len(content) > MOST_BYTES:
            child.kill()
    deadline.cancel()
    if child.returncode != 0:
        raise BuildUnavailable(f"{program}: status {child.returncode}")
    return content
