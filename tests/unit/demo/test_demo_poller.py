"""The client's account of when it was not served."""

import itertools
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given, strategies as st

from demo.daemon import free_port
from demo.poller import Answer, Gap, Poller, down_at_once, gaps_of, longest
from tests.wait import wait_until


def good(begun: float, ended: float | None = None) -> Answer:
    return Answer(begun, begun + 0.01 if ended is None else ended, ok=True)


def bad(begun: float, ended: float | None = None) -> Answer:
    return Answer(begun, begun + 0.01 if ended is None else ended, ok=False)


def test_a_client_that_is_always_served_sees_no_gap() -> None:
    assert gaps_of([good(1), good(2), good(3)], until=4) == ()


def test_a_gap_lasts_from_the_first_lost_request_to_the_next_answer() -> None:
    answers = [good(1), bad(2), bad(3), good(4, 4.5), good(5)]
    assert gaps_of(answers, until=9) == (Gap(2, 4.5),)


def test_each_outage_is_a_gap_of_its_own() -> None:
    answers = [bad(1), good(2, 2), good(3), bad(4), good(5, 5)]
    assert gaps_of(answers, until=9) == (Gap(1, 2), Gap(4, 5))


def test_an_outage_that_goes_on_ends_now() -> None:
    assert gaps_of([good(1), bad(2)], until=7) == (Gap(2, 7),)


def test_a_request_that_hung_does_not_hide_the_answers_after_it() -> None:
    hung = bad(2, 4)
    assert gaps_of([good(1), good(3, 3.1), hung, good(5)], until=9) == (Gap(2, 3.1),)


def test_a_late_answer_inside_an_outage_does_not_split_it() -> None:
    answers = [bad(1), good(2, 5), bad(3), good(6, 6)]
    assert gaps_of(answers, until=9) == (Gap(1, 6),)


@given(
    st.lists(
        st.builds(
            lambda begun, took, ok: Answer(begun, begun + took, ok),
            st.floats(0, 100),
            st.floats(0, 3),
            st.booleans(),
        )
    )
)
def test_gaps_are_in_order_apart_and_hold_every_lost_request(answers: list[Answer]) -> None:
    gaps = gaps_of(answers, until=200)
    for earlier, later in itertools.pairwise(gaps):
        assert earlier.end < later.begin
    for answer in answers:
        if not answer.ok:
            assert any(gap.begin <= answer.begun <= gap.end for gap in gaps)
    assert all(gap.seconds >= 0 for gap in gaps)


def test_outages_one_after_the_other_are_within_a_budget_of_one() -> None:
    gaps = {"a": [Gap(1, 2, refused=True)], "b": [Gap(2, 3, refused=True)]}
    assert down_at_once(gaps, allowed=1) == []


def test_outages_at_once_are_found_with_their_time() -> None:
    gaps = {
        "a": [Gap(1, 4, refused=True), Gap(8, 9)],
        "b": [Gap(3, 6, refused=True)],
        "c": [Gap(0, 10, refused=True)],
    }
    assert down_at_once(gaps, allowed=2) == [Gap(3, 4)]
    assert down_at_once({"a": gaps["a"], "b": gaps["b"]}, allowed=1) == [Gap(3, 4)]


def test_the_longest_gap_of_none_is_nothing() -> None:
    assert longest([]) == 0
    assert longest([Gap(1, 2), Gap(3, 7)]) == 4


class Page(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(Page.status)
        self.end_headers()
        self.wfile.write(b"hello\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    Page.status = 200
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_client_notices_when_a_server_fails_and_comes_back(server: ThreadingHTTPServer) -> None:
    with Poller({"web": server.server_port}, interval=0.005) as poller:
        wait_until(lambda: poller.answers("web"), 5)
        assert poller.answers("web")[0].text == "hello"
        Page.status = 503
        wait_until(lambda: poller.gaps()["web"], 5)
        Page.status = 200
        wait_until(lambda: poller.answers("web")[-1].ok, 5)
        (gap,) = poller.gaps()["web"]
        assert gap.seconds > 0
        assert not gap.refused
        after = poller.answers("web")[-1].ended
        wait_until(lambda: len(poller.answers("web", since=after)) > 2, 5)
        assert poller.gaps(after)["web"] == ()


def test_a_refused_connection_is_no_answer_and_a_dropped_name_is_asked_no_more() -> None:
    with Poller({"nobody": free_port()}, interval=0.005) as poller:
        wait_until(lambda: len(poller.answers("nobody")) > 2, 5)
        assert not any(answer.ok for answer in poller.answers("nobody"))
        assert poller.gaps()["nobody"][0].refused
        poller.drop("nobody")


def test_a_server_that_accepts_and_never_answers_does_not_stop_the_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = silent.getsockname()[1]
        with Poller({"silent": begun}, interval=0.005) as poller:
            wait_until(lambda: poller.answers("silent"), 10)
            assert not poller.answers("silent")[0].ok
            assert len(poller.gaps()["silent"]) == 1
