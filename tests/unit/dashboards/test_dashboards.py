"""The dashboards: fresh, of the types that Grafana's own SDK knows, and asking for what there is."""

import json
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.board import TAG
from dashboards.generate import FOLDER, dashboards, encode
from tests.unit.dashboards.exposed import samples, unmet
from tests.unit.dashboards.queries import asked, panels

NAMES = ("fleet", "rollouts", "sources", "controller")


def stored(name: str) -> dict[str, Any]:
    text = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@pytest.mark.parametrize("name", NAMES)
def test_the_json_is_what_the_code_says(name: str) -> None:
    text = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert text == encode(dashboards()[name]), "run: python -m dashboards.generate"


def test_there_are_exactly_these_dashboards() -> None:
    assert set(dashboards()) == set(NAMES)
    assert {path.stem for path in FOLDER.glob("*.json")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_sdk_reads_a_dashboard_and_loses_no_panel_query_or_option(name: str) -> None:
    register_default_plugins()
    read = Dashboard.from_json(stored(name))
    again = json.loads(json.dumps(read, cls=JSONEncoder))
    kept = {**stored(name), "annotations": again["annotations"]}
    assert again == kept, "annotations apart, whose fields belong to the data source"


@pytest.mark.parametrize("name", NAMES)
def test_the_data_source_is_a_variable_everywhere(name: str) -> None:
    dashboard = stored(name)
    of_panels = [one["datasource"] for one in panels(dashboard)]
    of_marks = [one["datasource"] for one in dashboard["annotations"]["list"]]
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    of_variables = [one["datasource"] for one in variables.values() if one["type"] == "query"]
    assert variables["datasource"]["type"] == "datasource"
    for source in (*of_panels, *of_marks, *of_variables):
        assert source == {"type": "prometheus", "uid": "${datasource}"}


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_asks_only_for_series_that_a_daemon_shows(name: str) -> None:
    present = samples()
    queries = asked(stored(name))
    assert len(queries) > 10
    assert {query: missing for query in queries if (missing := unmet(query, present))} == {}


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_says_what_it_shows_and_has_a_place_of_its_own(name: str) -> None:
    shown = panels(stored(name))
    assert all(one["title"] and one["description"].endswith(".") for one in shown)
    ids = [one["id"] for one in stored(name)["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for one in shown:
        place = one["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, one["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


@pytest.mark.parametrize("name", NAMES)
def test_dashboards_lead_to_one_another_and_mark_rollbacks(name: str) -> None:
    dashboard = stored(name)
    assert dashboard["uid"] == f"{TAG}-{name}"
    assert [link["tags"] for link in dashboard["links"]] == [[TAG]]
    assert [mark["name"] for mark in dashboard["annotations"]["list"]] == ["Rollbacks", "Committed"]
