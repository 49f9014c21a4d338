"""A sample of the fuzzed tars, so that the fuzzer itself cannot rot."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.fuzz import archives


@pytest.mark.skipif(shutil.which("unsquashfs") is None, reason="squashfs-tools are missing")
def test_a_sample_of_strangers_tars_is_read_or_refused() -> None:
    assert archives.main(3_000, seed=0) == 0


def test_the_fuzzer_notices_a_reader_that_opens_a_file_of_the_host(tmp_path: Path) -> None:
    watch = archives.Watch()
    watch.allowed = tmp_path / "layer.tar"
    with pytest.raises(AssertionError, match="open"):
        (tmp_path / "other").open("wb")
    watch.allowed = None
