"""The alert rules: each fires when it must and is silent when it must, and asks for what there is."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.dashboards.exposed import exposition, samples, unmet

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "dashboards/alerts.rules.yaml"
CASES = sorted((ROOT / "dashboards/rules_tests").glob("*.yaml"))
SEVERITIES = {"critical", "warning", "info"}

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed: ./dev test brings it, or apt-get install prometheus",
)


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules()}


def promtool(*arguments: str | Path, text: bytes = b"") -> str:
    done = subprocess.run(
        ["promtool", *arguments], input=text, capture_output=True, timeout=50, check=False
    )
    told = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, told
    return told


@needs_promtool
def test_the_rules_are_valid() -> None:
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", RULES)


@needs_promtool
@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.stem)
def test_each_alert_fires_when_it_must_and_is_silent_when_it_must(cases: Path) -> None:
    promtool("test", "rules", cases)


@needs_promtool
def test_prometheus_finds_nothing_to_say_about_our_metrics() -> None:
    assert promtool("check", "metrics", text=exposition()) == ""


def verdicts() -> dict[str, set[bool]]:
    """For each alert: whether a case expects it (True), and whether one expects it not."""
    found: dict[str, set[bool]] = {name: set() for name in ALERTS}
    for path in CASES:
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for case in test.get("promql_expr_test", ()):
                name = re.search(r'alertname="(\w+)"', case["expr"])
                assert name is not None, case
                found[name[1]].add("exp_samples" in case)
            for case in test.get("alert_rule_test", ()):
                found[case["alertname"]].add("exp_alerts" in case)
    return found


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    untested = {name for name, seen in verdicts().items() if seen != {True, False}}
    assert untested == set()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_and_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    annotations = rule["annotations"]
    assert rule["labels"]["severity"] in SEVERITIES
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert annotations["runbook_url"] == f"docs/operations/alerts.md#{name.lower()}"


def test_the_runbook_has_one_whole_entry_for_each_alert() -> None:
    page = (ROOT / "docs/operations/alerts.md").read_text(encoding="utf-8")
    entries = dict(
        re.findall(r"^### (Reconciler\w+)\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL)
    )
    assert list(entries) == list(ALERTS)
    for name, text in entries.items():
        assert re.findall(r"^- \*\*(\w+)\*\*", text, re.MULTILINE) == [
            "Means", "Check", "Repair",
        ], name  # fmt: skip


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_asks_only_for_series_that_a_daemon_shows(name: str) -> None:
    rule = ALERTS[name]
    asked = rule["expr"] + "\n" + rule["annotations"]["description"]
    assert unmet(asked, samples()) == []
