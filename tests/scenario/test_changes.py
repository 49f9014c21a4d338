"""What a push changes, as `plan` and `diff` show it to people: words of the manifest, nothing of Python's."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.checks import HttpCheck, TcpCheck
from reconciler.model.names import VMName
from reconciler.planning.diff import differences
from tests.world import vm


def test_changes_are_told_in_the_words_of_a_manifest() -> None:
    old = vm("web", labels={"tier": "web"})
    new = replace(
        old,
        labels=(),
        health=replace(
            old.health,
            checks=(HttpCheck(8080, "/ready", status=(200, 204)), TcpCheck(8081, expect="220")),
            startup_deadline=60.0,
        ),
        update=replace(old.update, after=(VMName("db"), VMName("cache")), snapshot_volumes=True),
    )
    assert [(c.path, c.old, c.new) for c in differences(old, new)] == [
        ("metadata.labels", "tier=web", "none"),
        (
            "spec.health.checks[0]",
            "http port 8080 path /healthz purpose liveness",
            "http port 8080 path /ready status 200, 204",
        ),
        ("spec.health.checks[1]", "none", "tcp port 8081 expect 220"),
        ("spec.health.startupDeadline", "30s", "60s"),
        ("spec.update.after", "none", "db, cache"),
        ("spec.update.snapshotVolumes", "false", "true"),
    ]
