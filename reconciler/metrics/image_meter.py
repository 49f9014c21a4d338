"""The image store in metrics: what happened to it, and what is in it at a scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import Counter, Histogram

from reconciler.metrics import label_sets
from reconciler.metrics.exposition import family
from reconciler.model.store_status import StoreStatus

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


def store_lines(store: StoreStatus) -> Iterator[str]:
    """What is in the store, by closed labels; a part counts as the layer that it is."""
    sizes = {(share.kind, share.state): share.size_bytes for share in store.shares}
    yield from family(
        "image_store_bytes",
        "gauge",
        "Size of the images in the store; used: a guest runs on it or is to, kept: to roll back to.",
        [
            f'{{kind="{kind}",state="{state}"}} {sizes.get((kind, state), 0)}'
            for kind in label_sets.IMAGE_KINDS
            for state in label_sets.IMAGE_STATES
            if state != "missing"
        ],
    )
    yield from family(
        "image_store_images",
        "gauge",
        "Images by state; missing: named, and built before the next use.",
        [f'{{state="{state}"}} {store.count(state)}' for state in label_sets.IMAGE_STATES],
    )
    for name, text, value in (
        ("saved_bytes", "What a copy for each VM would take beyond the one copy.", store.saved_bytes),
        ("max_bytes", "policy.store_max_mib in bytes; 0: no bound, and nothing unused is kept.", store.max_bytes),
        ("oldest_check_timestamp_seconds", "When the image that was read longest ago was read or made; 0: none is there.", store.oldest_check_wall),
    ):  # fmt: skip
        yield from family(f"image_store_{name}", "gauge", text, [f" {value!r}"])
