"""A Healthcheck is translated only if a check from outside asks the same; all else is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st
from pydantic import TypeAdapter

from reconciler.explain.healthcheck import OutsideCheck, asked_by
from reconciler.model.fields import UrlPath
from reconciler.model.image_contents import ImageHealthcheck

SHELL = "CMD-SHELL"


@pytest.mark.parametrize(
    ("test", "asked"),
    [
        ((SHELL, "curl -f http://localhost/ || exit 1"), OutsideCheck("http", 80)),
        ((SHELL, "curl -fsS http://localhost:8080/healthz"), OutsideCheck("http", 8080, "/healthz")),
        ((SHELL, "curl --fail 127.0.0.1:9000/ping >/dev/null 2>&1"), OutsideCheck("http", 9000, "/ping")),
        ((SHELL, "curl http://localhost:8080/a?b=c#d"), OutsideCheck("http", 8080, "/a?b=c", any_status=True)),
        ((SHELL, "curl -sf 'http://localhost/a?b=1&c=2' || false"), OutsideCheck("http", 80, "/a?b=1&c=2")),
        (("CMD", "curl", "-f", "-o", "/dev/null", "http://localhost"), OutsideCheck("http", 80)),
        (("CMD", "/usr/bin/curl", "-fm", "5", "https://localhost/x"), OutsideCheck("tcp", 443)),
        (("CMD", "sh", "-c", "curl -f http://[::1]:81/"), OutsideCheck("http", 81)),
        ((SHELL, "wget -qO- http://localhost:3000/health"), OutsideCheck("http", 3000, "/health")),
        ((SHELL, "wget -q -O - localhost:3000"), OutsideCheck("http", 3000)),
        (
            (SHELL, "wget --no-verbose --tries=1 --spider http://127.0.0.1:7/ || exit 1"),
            OutsideCheck("http", 7),
        ),
        ((SHELL, "nc -zw1 localhost 5432"), OutsideCheck("tcp", 5432)),
        ((SHELL, "pg_isready -U app -d app"), OutsideCheck("tcp", 5432)),
        (("CMD", "pg_isready", "-h", "localhost", "-p", "5433"), OutsideCheck("tcp", 5433)),
        (("CMD", "redis-cli", "-p", "6380", "ping"), OutsideCheck("tcp", 6380)),
    ],
)  # fmt: skip
def test_a_command_that_asks_this_guest_is_a_check_from_outside(
    test: tuple[str, ...], asked: OutsideCheck
) -> None:
    assert asked_by(ImageHealthcheck(test)) == asked


@pytest.mark.parametrize(
    "test",
    [
        (SHELL, "curl -f http://db:8080/"), (SHELL, "curl -f http://localhost.example.org/"),
        (SHELL, "curl -f http://localhost@example.org/"), (SHELL, "curl -f http://localhost:0/"),
        (SHELL, "curl -f http://localhost:65536/"), (SHELL, "curl -f http://localhost:$PORT/"),
        (SHELL, "curl -f http://localhost/ | grep ok"), (SHELL, "curl -f http://localhost/ && test -e /x"),
        (SHELL, "test -e /x; curl -f http://localhost/"), (SHELL, "curl -f http://localhost/ || curl -f x"),
        (SHELL, "curl -f http://localhost/`id`"), (SHELL, "curl -f -X POST http://localhost/"),
        (SHELL, "curl -f -H 'Host: a' http://localhost/"), (SHELL, "curl -f http://localhost/ http://localhost/2"),
        (SHELL, "curl -f 'http://localhost/"), (SHELL, "curl -f http://localhost/\u00e9"), (SHELL, "curl"),
        (SHELL, "curl -f http://localhost/" + "x" * 300), (SHELL, ""), (SHELL,), ("CMD",), (), ("NONE",),
        (SHELL, "curl -f http://localhost/", "more"), (SHELL, "/healthcheck.sh"), ("CMD", "curl", "-"),
        (SHELL, "nc -z db 80"), (SHELL, "nc localhost 80"), (SHELL, "pg_isready -h db"), (SHELL, "redis-cli"),
        (SHELL, "redis-cli -p x ping"), (SHELL, "curl -f \x1b[2Jhttp://localhost/"), ("CMD", "sh", "-c"),
        (SHELL, "exec curl -f http://localhost/"), (SHELL, "nc -z localhost \u0661"), (SHELL, "curl -f -o"),
    ],
)  # fmt: skip
def test_what_asks_something_else_or_is_not_understood_is_not_translated(
    test: tuple[str, ...],
) -> None:
    assert asked_by(ImageHealthcheck(test)) is None


WORDS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["curl", "wget", "nc", "-f", "-o", "-z", "-p", "-h", "--", "-", "||", "exit", "1", "2>", "&1", "localhost"]
    ),
    st.from_regex(r"https?://localhost(:[0-9]{0,6})?(/[ -~]{0,20})?", fullmatch=True),
)  # fmt: skip


@given(st.sampled_from(["CMD", SHELL]), st.lists(WORDS, max_size=8))
def test_whatever_an_image_says_a_check_has_a_port_and_a_path_that_a_manifest_may_have(
    how: str, words: list[str]
) -> None:
    said = tuple(words) if how == "CMD" else (" ".join(words),)
    asked = asked_by(ImageHealthcheck((how, *said)))
    if asked is not None:
        assert 0 < asked.port <= 65_535
        assert TypeAdapter(UrlPath).validate_python(asked.path) == asked.path
