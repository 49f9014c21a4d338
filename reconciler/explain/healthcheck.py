"""What check of ours asks the same as the Healthcheck of a container's image, which no guest runs.

Only a command that asks this guest over the network, and does nothing else, can be asked from outside.
All of it is text that anyone may have written: what is not understood to its last word is not translated.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from reconciler.model.fields import FIRST_STATUS, LAST_STATUS
from reconciler.model.image_contents import ImageHealthcheck

HIGHEST_PORT = 65_535
MOST_PATH = 256
HERE = r"(?:localhost|127\.[0-9.]+|0\.0\.0\.0|\[::1?\])"
URL = re.compile(rf"(?:(https?)://)?{HERE}(?::([0-9]{{1,5}}))?(/[!-~]*)?")
ADDRESS = re.compile(HERE.replace(r"\[::1?\]", "::1?"))
PORTS = {"http": 80, "https": 443}
JOINTS = {"&", "&&", ";", "|", "(", ")", "<", "<<", "|&", ";;"}
"""Of a shell's line: more than one command, or one that is fed by a file."""
REDIRECTIONS = {">", ">>", ">&", "&>"}
GIVING_UP = (["exit", "1"], ["false"], ["exit"])
"""What follows `||` and changes nothing: the check failed."""
SHELLS = ("sh", "bash", "ash", "dash")


@dataclass(frozen=True, slots=True)
class OutsideCheck:
    """What a command asks of its own guest."""

    kind: Literal["http", "tcp"]
    port: int
    path: str = "/"
    any_status: bool = False
    """Whether every response passes."""


@dataclass(frozen=True, slots=True)
class _Options:
    """Those of a program that do not change what is asked: letters, with or without a value, and words."""

    letters: str
    with_value: str
    words: frozenset[str] = frozenset()
    words_with_value: frozenset[str] = frozenset()


CURL = _Options(
    "fsSLvkgi46", "om", frozenset(
        ("--fail", "--silent", "--show-error", "--location", "--insecure", "--verbose", "--ipv4", "--globoff")
    ),
    frozenset(("--output", "--max-time", "--connect-timeout", "--retry", "--retry-delay")),
)  # fmt: skip
WGET = _Options(
    "qvS46", "OtT", frozenset(
        ("--spider", "--quiet", "--no-verbose", "-nv", "--no-check-certificate", "--server-response")
    ),
    frozenset(("--tries", "--timeout", "--output-document")),
)  # fmt: skip
NETCAT = _Options("zvn46", "w")
POSTGRES = _Options("q", "UdtT", frozenset(("--quiet",)), frozenset(("--username", "--dbname")))
REDIS = _Options("", "")


def asked_by(check: ImageHealthcheck) -> OutsideCheck | None:
    """What the check asks, if a check of ours can ask it."""
    if not check.test:
        return None
    how, *words = check.test
    if how == "CMD-SHELL" and len(words) == 1:
        return _of_line(words[0])
    if how != "CMD" or not words:
        return None
    if posixpath.basename(words[0]) in SHELLS and words[1:2] == ["-c"] and len(words) == 3:  # noqa: PLR2004 - sh -c LINE
        return _of_line(words[2])
    return _of_words(words)


def _of_line(line: str) -> OutsideCheck | None:
    """Of a line for a shell, if it is one plain command."""
    try:
        reader = shlex.shlex(line, posix=True, punctuation_chars=True)
        reader.whitespace_split, reader.commenters = True, ""
        words = list(reader)
    except ValueError:
        return None
    if "||" in words:
        at = words.index("||")
        if words[at + 1 :] not in GIVING_UP:
            return None
        words = words[:at]
    words = _without_redirections(words)
    if JOINTS.intersection(words) or any(sign in word for word in words for sign in "$`*\n"):
        return None
    return _of_words(words)


def _without_redirections(words: Sequence[str]) -> list[str]:
    found: list[str] = []
    left = iter(words)
    for word in left:
        if word in REDIRECTIONS:
            if found and found[-1] in ("1", "2"):
                found.pop()
            next(left, None)
        else:
            found.append(word)
    return found


def _of_words(words: Sequence[str]) -> OutsideCheck | None:
    of_program = PROGRAMS.get(posixpath.basename(words[0])) if words else None
    return of_program(words[1:]) if of_program else None


def _curl(words: Sequence[str]) -> OutsideCheck | None:
    parsed = _parsed(words, CURL)
    fails = parsed is not None and ("-f" in parsed[0] or "--fail" in parsed[0])
    return _page(parsed[1], any_status=not fails) if parsed else None


def _wget(words: Sequence[str]) -> OutsideCheck | None:
    parsed = _parsed(words, WGET)
    return _page(parsed[1], any_status=False) if parsed else None


def _page(urls: Sequence[str], *, any_status: bool) -> OutsideCheck | None:
    found = URL.fullmatch(urls[0]) if len(urls) == 1 else None
    if found is None:
        return None
    scheme, path = found[1] or "http", (found[3] or "/").partition("#")[0]
    port = int(found[2] or PORTS[scheme])
    if not 0 < port <= HIGHEST_PORT or len(path) > MOST_PATH:
        return None
    if scheme == "https":
        return OutsideCheck("tcp", port)
    return OutsideCheck("http", port, path, any_status)


def _netcat(words: Sequence[str]) -> OutsideCheck | None:
    parsed = _parsed(words, NETCAT)
    if parsed is None or "-z" not in parsed[0]:
        return None
    match parsed[1]:
        case [address, port] if ADDRESS.fullmatch(address):
            return _tcp(port)
    return None


def _postgres(words: Sequence[str]) -> OutsideCheck | None:
    return _server(words, POSTGRES, 5432, ([],))


def _redis(words: Sequence[str]) -> OutsideCheck | None:
    return _server(words, REDIS, 6379, (["ping"], ["PING"]))


def _server(
    words: Sequence[str], options: _Options, port: int, commands: Sequence[Sequence[str]]
) -> OutsideCheck | None:
    """Of a client that asks whether its server is there: `-h HOST -p PORT`."""
    rest: list[str] = []
    given, left = str(port), iter(words)
    for word in left:
        if word == "-p":
            given = next(left, "")
        elif word == "-h":
            if not ADDRESS.fullmatch(next(left, "")):
                return None
        else:
            rest.append(word)
    parsed = _parsed(rest, options)
    return _tcp(given) if parsed is not None and list(parsed[1]) in commands else None


def _tcp(port: str) -> OutsideCheck | None:
    found = int(port) if re.fullmatch(r"[0-9]{1,5}", port) else 0
    return OutsideCheck("tcp", found) if 0 < found <= HIGHEST_PORT else None


def _parsed(words: Sequence[str], options: _Options) -> tuple[frozenset[str], list[str]] | None:
    """The options that are given, one by one, and the other words; None if one is not known."""
    given, rest = set[str](), list[str]()
    left = iter(words)
    for word in left:
        if not word.startswith("-") or word == "-":
            rest.append(word)
        elif word in options.words:
            given.add(word)
        elif (name := word.partition("=")[0]) in options.words_with_value:
            given.add(name)
            if "=" not in word:
                next(left, None)
        elif (letters := _letters(word, options)) is not None:
            given.update(f"-{letter}" for letter in letters)
            if letters[-1] in options.with_value and word.endswith(letters[-1]):
                next(left, None)
        else:
            return None
    return frozenset(given), rest


def _letters(word: str, options: _Options) -> str | None:
    """The letters of `-fsSo`; of `-O-` those before the value."""
    found = ""
    for letter in word[1:]:
        if letter in options.with_value:
            return found + letter
        if letter not in options.letters:
            return None
        found += letter
    return found or None


PROGRAMS: Mapping[str, Callable[[Sequence[str]], OutsideCheck | None]] = {
    "curl": _curl, "wget": _wget, "nc": _netcat, "netcat": _netcat, "pg_isready": _postgres, "redis-cli": _redis,
}  # fmt: skip
ANY_STATUS = f"{FIRST_STATUS}-{LAST_STATUS}"
