"""What is news to a sink, and what is not."""

from reconciler.model.event import Event, Severity
from reconciler.notify.message import Message, approximate_duration, plain
from reconciler.notify.selection import Digest
from tests.unit.notify.stories import REVISION, WALL, Log


def digest(severity: Severity = "warning", *groups: str, repeat: float = 3600.0) -> Digest:
    return Digest("host-1", severity=severity, groups=groups, repeat=repeat)


def told(by: Digest, events: list[Event]) -> list[Message]:
    return [message for event in events if (message := by.take(event)) is not None]


def a_rollback() -> Log:
    log = Log()
    log.add("revision-accepted", 0)
    log.add("guest-starting", 1, "web", group="front", generation=6)
    log.add("generation-condemned", 10, "web", group="front", generation=6)
    log.add("group-held", 10, group="front")
    log.add("guest-stopping", 11, "web", group="front", generation=6)
    log.add("rolled-back", 190, "web", group="front", generation=5)
    return log


def test_a_rollback_is_a_failure_and_its_end_with_the_time_between() -> None:
    failed, held, over = told(digest(), a_rollback().events)
    assert (failed.status, failed.condition, failed.severity) == ("firing", "update", "error")
    assert (failed.vm, failed.group, failed.generation) == ("web", "front", 6)
    assert failed.revision == REVISION
    assert "reconciler history web" in failed.hint
    assert held.condition == "held"
    assert (over.status, over.condition) == ("resolved", "update")
    assert over.summary.startswith("web serves generation 5 again after 3 min")
    assert over.ends == (failed,)


def test_the_end_is_told_to_whoever_was_told_the_beginning_whatever_its_severity() -> None:
    by = digest("error")
    statuses = [(one.status, one.condition) for one in told(by, a_rollback().events)]
    assert statuses == [("firing", "update"), ("resolved", "update")]


def test_an_end_of_what_was_never_told_is_judged_by_its_own_severity() -> None:
    log = Log()
    log.add("rolled-back", 1, "web", generation=5)
    log.add("generation-committed", 2, "web", generation=6)
    assert [one.status for one in told(digest("error"), log.events)] == []
    assert [one.condition for one in told(digest(), log.events)] == ["rolled-back"]
    assert [one.status for one in told(digest("info"), log.events)] == ["notice", "notice"]


def test_the_same_trouble_of_the_same_vm_is_one_message_until_the_window_is_over() -> None:
    log = Log()
    for at in (0, 2, 10, 60, 3599, 3601, 3700):
        log.add("guest-crashed", at, "web", generation=5)
    log.add("guest-recovered", 7200, "web", generation=5)
    log.add("guest-crashed", 7300, "web", generation=5)
    messages = told(digest(), log.events)
    assert [(one.status, one.wall - WALL) for one in messages] == [
        ("firing", 0),
        ("firing", 3601),
        ("resolved", 7200),
        ("firing", 7300),
    ]
    assert messages[2].ends == (messages[0],)
    assert messages[2].summary == "web serves generation 5 again after 2 h"


def test_two_vms_and_two_conditions_do_not_hide_each_other() -> None:
    log = Log()
    log.add("guest-crashed", 0, "web")
    log.add("guest-crashed", 1, "db")
    log.add("quarantined", 2, "web")
    log.add("build-layer-failed", 3, message="build-layer 0123456789ab: no such folder")
    log.add("build-layer-failed", 4, message="build-layer fedcba987654: no such folder")
    assert len(told(digest(), log.events)) == 5


def test_one_event_may_end_several_conditions_and_is_one_message() -> None:
    log = Log()
    log.add("guest-crashed", 0, "web")
    log.add("quarantined", 2, "web")
    log.add("guest-crashed", 3, "db")
    log.add("generation-committed", 50, "web", generation=7)
    *_, over = told(digest(), log.events)
    assert over.status == "resolved"
    assert {one.condition for one in over.ends} == {"crash", "quarantine"}
    assert {one.vm for one in over.ends} == {"web"}


def test_tags_do_not_hide_each_other_and_each_ends_by_its_own_answer() -> None:
    log = Log()
    log.add("look-up-failed", 0, message="look-up r.example/a:1 daily: cannot be reached")
    log.add("look-up-failed", 1, message="look-up r.example:5000/b:2 commit: cannot be reached")
    log.add("tag-looked-up", 60, message="r.example/a:1 means sha256:0123, as before")
    first, second, over = told(digest(), log.events)
    assert (first.subject, second.subject) == ("r.example/a:1", "r.example:5000/b:2")
    assert over.ends == (first,)


def test_what_reading_images_again_found_is_what_the_message_says() -> None:
    log = Log()
    log.add("block-damaged", 0, "web", generation=5)
    found = "web: an image had rotted, and is built again"
    log.add("damage-checked", 60, "web", generation=5, message=found)
    *_, over = told(digest(), log.events)
    assert (over.status, over.summary) == ("resolved", f"over after 60 s: {found}")


def test_groups_are_a_filter_and_the_empty_name_is_what_has_none() -> None:
    log = a_rollback()
    log.add("revision-rejected", 300)
    log.add("guest-crashed", 301, "db", group="back")
    assert {one.group for one in told(digest("info", "front"), log.events)} == {"front"}
    assert {one.group for one in told(digest("info", ""), log.events)} == {""}
    assert {one.vm for one in told(digest("warning", "back", ""), log.events)} == {"", "db"}


def test_after_a_restart_the_same_events_are_the_same_messages() -> None:
    log = a_rollback()
    assert told(digest(), log.events) == told(digest(), log.events)
    ids = [one.id for one in told(digest("info"), log.events)]
    assert len(set(ids)) == len(ids) == len(log.events)


def test_a_refused_revision_is_over_with_the_next_good_one() -> None:
    log = Log()
    log.add("revision-rejected", 0)
    log.add("revision-accepted", 600)
    failed, over = told(digest(), log.events)
    assert over.ends == (failed,)
    assert over.summary.startswith("over after 10 min: ")


def test_strangers_text_is_one_harmless_line_of_bounded_length() -> None:
    assert (
        plain("a\r\nBcc: all@example.org\x1b[2J\u202eevil\udcff")
        == "a Bcc: all@example.org\\u202eevil\\udcff"
    )
    assert len(plain("x" * 1_000_000)) == 2000


def test_times_are_told_as_people_say_them() -> None:
    words = [approximate_duration(seconds) for seconds in (-1, 12, 119, 180, 7200, 90_000, 400_000)]
    assert words == ["0 s", "12 s", "119 s", "3 min", "2 h", "25 h", "5 days"]
