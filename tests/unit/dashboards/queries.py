"""The queries of a dashboard, as Grafana would send them."""

from __future__ import annotations

import re
from typing import Any

LABEL_VALUES = re.compile(r"label_values\((.*), \w+\)")


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """All that show something: rows only order them."""
    return [one for one in dashboard["panels"] if one["type"] != "row"]


def asked(dashboard: dict[str, Any]) -> list[str]:
    """What panels, marks and variables ask of Prometheus."""
    of_panels = [target["expr"] for one in panels(dashboard) for target in one["targets"]]
    of_marks = [one["expr"] for one in dashboard["annotations"]["list"]]
    of_variables = []
    for one in dashboard["templating"]["list"]:
        if one["type"] == "query":
            found = LABEL_VALUES.fullmatch(one["query"]["query"])
            assert found is not None, one["query"]
            of_variables.append(found[1])
    return [*of_panels, *of_marks, *of_variables]


def filled_in(query: str, **variables: str) -> str:
    """With Grafana's variables replaced; what is not named is all there is."""
    filled = query.replace("$__rate_interval", "1m").replace("$__interval", "1m")
    for name in ("instance", "group", "vm"):
        filled = filled.replace(f"${name}", variables.get(name, ".*"))
    assert "$" not in filled, filled
    return filled
