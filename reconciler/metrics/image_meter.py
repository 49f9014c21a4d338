"""Counters of the image store: builds, collections, and images that were read again."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import Counter, Histogram

from reconciler.metrics import label_sets

BUILD_BUCKETS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
MADE = ("built", "differs")
"""Results of a build that made something."""


class ImageMeter:
    """Part of one daemon's meter; each method takes a few microseconds and never fails on a closed label."""

    def __init__(
        self, counter: Callable[..., Counter], histogram: Callable[..., Histogram]
    ) -> None:
        """`counter` and `histogram` make a series in the daemon's registry, with its closed labels."""
        self._builds = counter(
            "image_build_total",
            "Builds of layers and kernel bundles; differs: made, of other bytes than the same inputs gave before.",
            result=label_sets.BUILD_RESULTS,
        )
        self._collections = counter(
            "image_collections_total",
            "Times that unused images were removed.",
            result=label_sets.COLLECT_RESULTS,
        )
        self._freed = counter("image_collected_bytes_total", "What images took that were removed.")
        self._checks = counter(
            "image_checks_total",
            "Images of which all bytes were read again and compared with what was made.",
            result=label_sets.CHECK_RESULTS,
        )
        self._build_seconds = histogram(
            "image_build_duration_seconds", "Time of a build that made something.", BUILD_BUCKETS
        )

    def collected(self, freed: int, *, failed: bool) -> None:
        """Unused images and folders were removed; `freed` in bytes."""
        self._collections.labels("failed" if failed else "succeeded").inc()
        self._freed.inc(freed)

    def image_checked(self, result: str) -> None:
        """All bytes of an image were read again; `result` is one of CHECK_RESULTS."""
        self._checks.labels(result).inc()

    def build_ended(self, result: str, seconds: float, exemplar: dict[str, str] | None) -> None:
        """`result` is one of BUILD_RESULTS; only what was built has a duration."""
        self._builds.labels(result).inc()
        if result in MADE:
            self._build_seconds.observe(seconds, exemplar)
