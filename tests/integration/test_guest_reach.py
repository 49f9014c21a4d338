"""What a real guest reaches of the host by its user network: its forwards work, and the TCP face tells it nothing."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator

import pytest

from demo.daemon import free_port
from demo.stage import Stage
from tests.wait import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

MANIFEST = """
apiVersion: reconciler/v1
kind: MicroVM
metadata: {{name: curious}}
spec:
  memory: 96MiB
  store: {{layers: [{{busybox: {{}}}}, {{tree: ./curious}}]}}
  interfaces: [{{type: user, forward: [{{host: {port}, guest: 80}}]}}]
  health:
    startupDeadline: 90s
    minHealthyTime: 1s
    period: 1s
    checks: [{{http: {{port: {port}}}}}]
"""
PATHS = ("", "vm/curious", "metrics", "api/status", "commits", "events", "readyz")
ASKS = """#!/bin/sh
mkdir /tmp/w
httpd -p 80 -h /tmp/w
for path in {paths}; do
  n=0
  asked=$(echo "$path" | tr + /)
  [ "$path" = + ] && asked=
  while [ $n -lt 10 ] && ! [ -s "/tmp/w/got-$path" ]; do
    printf 'GET /%s HTTP/1.1\\r\\nHost: 10.0.2.2\\r\\nConnection: close\\r\\n\\r\\n' "$asked" \\
      | nc -w 5 10.0.2.2 {http} >"/tmp/w/got-$path"
    n=$((n+1))
  done
done
echo said on the console
echo done >/tmp/w/index.html
"""


@pytest.fixture
def stage() -> Iterator[Stage]:
    opened = Stage.open()
    yield opened
    assert opened.close() == []


@pytest.mark.shows(fault=31)
def test_a_guest_reads_nothing_on_the_tcp_face_but_that_the_daemon_lives(stage: Stage) -> None:
    port = free_port()
    stage.repository.write("curious.yaml", MANIFEST.format(port=port))
    paths = " ".join(path.replace("/", "+") or "+" for path in PATHS)
    script = ASKS.format(paths=paths, http=stage.daemon.settings.http_port)
    stage.repository.write("curious/etc/rc.local", script, mode=0o755)
    stage.repository.push("a curious guest")
    stage.seed()
    stage.daemon.start()

    def page(path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=3) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    wait_until(lambda: "done" in page("index.html"), 180, "the guest asked, and its forward works")
    told = {path: page(f"got-{path.replace('/', '+') or '+'}") for path in PATHS}
    for path in PATHS[:-1]:
        assert told[path].startswith("HTTP/1.1 401 "), path
        assert "curious" not in told[path]
    assert told["readyz"].startswith("HTTP/1.1 200 ")
