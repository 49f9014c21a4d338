"""`doctor` looks at the page's token as the daemon will."""

from pathlib import Path

import pytest

from reconciler.cli.doctor_checks import check_token

KNOWN = "a token of some length"


@pytest.mark.parametrize(
    ("text", "mode", "result", "words"),
    [
        (KNOWN, 0o600, "ok", "can act on the page"),
        (KNOWN, 0o644, "failed", "read by everyone"),
        ("short", 0o600, "failed", "16 to 512"),
        (None, 0, "failed", "No such file"),
    ],
)
def test_a_token_that_the_daemon_would_refuse_is_found(
    tmp_path: Path, text: str | None, mode: int, result: str, words: str
) -> None:
    path = tmp_path / "token"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    found = check_token(path)
    assert (found.result, words in found.detail) == (result, True)
    assert (found.result == "ok") == (not found.remedy)


def test_what_systemd_hands_to_the_daemon_alone_is_no_certain_failure() -> None:
    found = check_token(Path("/run/credentials/reconciler.service/git_page-token"))
    assert found.result == "warning"
