"""What Prometheus reads: counters of what happened, and the present state derived at scrape time."""

from reconciler.metrics.meter import Metrics

__all__ = ["Metrics"]
