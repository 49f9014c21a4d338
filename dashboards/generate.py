"""Writes the dashboards as JSON for Grafana's provisioning: `python -m dashboards.generate`."""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.controller import controller
from dashboards.fleet import fleet
from dashboards.rollouts import rollouts
from dashboards.sources import sources

FOLDER = Path(__file__).parent / "grafana"


def dashboards() -> dict[str, Dashboard]:
    """All dashboards, by the name of their file."""
    return {
        "fleet": fleet(),
        "rollouts": rollouts(),
        "sources": sources(),
        "controller": controller(),
    }


def encode(dashboard: Dashboard) -> str:
    return json.dumps(dashboard, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def main() -> None:
    for name, dashboard in dashboards().items():
        (FOLDER / f"{name}.json").write_text(encode(dashboard), encoding="utf-8")


if __name__ == "__main__":
    main()
