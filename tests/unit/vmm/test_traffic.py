"""Bytes and packets of taps, read from the kernel's counters."""

from __future__ import annotations

from pathlib import Path

from reconciler.model.guest_reports import NetworkTraffic
from reconciler.vmm.tap_traffic import traffic


def a_tap(root: Path, name: str, rx: tuple[int, int], tx: tuple[int, int]) -> None:
    folder = root / name / "statistics"
    folder.mkdir(parents=True)
    for word, (size, packets) in (("rx", rx), ("tx", tx)):
        (folder / f"{word}_bytes").write_text(f"{size}\n")
        (folder / f"{word}_packets").write_text(f"{packets}\n")


def test_what_the_host_sends_into_a_tap_is_what_the_guest_received(tmp_path: Path) -> None:
    a_tap(tmp_path, "one", rx=(100, 1), tx=(2**63, 20))
    a_tap(tmp_path, "two", rx=(5, 2), tx=(7, 3))
    assert traffic(("one",), tmp_path) == NetworkTraffic(2**63, 20, 100, 1)
    assert traffic(("one", "two"), tmp_path) == NetworkTraffic(2**63 + 7, 23, 105, 3)


def test_a_tap_that_is_gone_or_garbled_counts_nothing(tmp_path: Path) -> None:
    a_tap(tmp_path, "one", rx=(100, 1), tx=(200, 2))
    a_tap(tmp_path, "odd", rx=(1, 1), tx=(1, 1))
    (tmp_path / "odd/statistics/tx_bytes").write_text("many\n")
    assert traffic(("one", "odd", "gone"), tmp_path) == NetworkTraffic(200, 2, 100, 1)
    assert traffic(("gone",), tmp_path) is None
    assert traffic((), tmp_path) is None
