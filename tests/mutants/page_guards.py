"""The guards of the page: who may act, what is escaped, and what is bounded."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

PAGE = ("tests/unit/control",)

MUTANTS = (
    Mutant(
        "any token will do",
        "reconciler/control/access.py",
        "            if hmac.compare_digest(digest, known):\n",
        "            if digest:\n",
        PAGE,
    ),
    Mutant(
        "wrong tokens lock out the right one",
        "reconciler/control/access.py",
        "        if (right := self.right_of_token(given)) is not None:\n",
        "        if self._delayed < MOST_DELAYED and (right := self.right_of_token(given)) is not None:\n",
        PAGE,
        after="log.warning(",
    ),
    Mutant(
        "any signature of a session will do",
        "reconciler/control/access.py",
        'if hmac.compare_digest(mac.encode("utf-8", "replace"), self._mac(name).encode()):',
        "if mac and len(parts) == 3:",
        PAGE,
    ),
    Mutant(
        "what is shown needs no token",
        "reconciler/control/guard.py",
        'if includes(right, NEEDS.get(path, "read")):',
        'if includes(right or "read", NEEDS.get(path, "read")):',
        PAGE,
    ),
    Mutant(
        "who may read may act",
        "reconciler/control/guard.py",
        '"/act": "act"',
        '"/act": "read"',
        PAGE,
    ),
    Mutant(
        "strangers' connections are not bounded",
        "reconciler/control/connections.py",
        "        if self.count < self._most:\n",
        "        if self.count >= 0:\n",
        PAGE,
    ),
    Mutant(
        "a form may be of another origin",
        "reconciler/control/page/posted.py",
        'if origin.scheme not in ("http", "https") or not host or origin.netloc != host:',
        'if origin.scheme not in ("http", "https"):',
        PAGE,
    ),
    Mutant(
        "a form may be of another site, if the origin fits",
        "reconciler/control/page/posted.py",
        'if site != "same-origin":',
        "if not site:",
        PAGE,
    ),
    Mutant(
        "the page offers all that the socket takes",
        "reconciler/control/page/acting.py",
        'if fields.get("op") not in OPERATIONS:',
        'if not fields.get("op"):',
        PAGE,
    ),
    Mutant(
        "sessions never end",
        "reconciler/control/access.py",
        "if given in self._ended or self._wall() >= int(parts[1]):",
        "if given in self._ended:",
        PAGE,
    ),
    Mutant(
        "signing out ends nothing",
        "reconciler/control/access.py",
        "if given in self._ended or self._wall() >= int(parts[1]):",
        "if self._wall() >= int(parts[1]):",
        PAGE,
    ),
    Mutant(
        "everybody's token file is taken",
        "reconciler/secretfile.py",
        "if private and stat.S_IMODE(mode) & 0o007:",
        "if private and stat.S_IMODE(mode) & 0o010000:",
        PAGE,
        after='raise ConfigError(f"{key} {path} can be read by everybody on this host", hint',
    ),
    Mutant(
        "without a token there are forms all the same",
        "reconciler/control/public.py",
        'may_post = request.method == "POST" and request.path in posted',
        'may_post = request.method == "POST"',
        PAGE,
    ),
    Mutant(
        "a name that was made to point here is answered",
        "reconciler/control/guard.py",
        "if len(hosts) > 1 or not all(is_known(host, names) for host in hosts):",
        "if len(hosts) > 1:",
        PAGE,
    ),
    Mutant(
        "texts are taken for markup",
        "reconciler/control/page/html.py",
        "html.escape(clean_lines(text))",
        "clean_lines(text)",
        PAGE,
        before="return text if text.isascii() and text.isalnum() else ",
    ),
    Mutant(
        "a long history is read to its end",
        "reconciler/source/past.py",
        "min(most, MOST_COMMITS)",
        "most",
        ("tests/unit/source/test_past.py",),
        before="_in_order(_walk(repository, tips,",
    ),
    Mutant(
        "a status that is known is never told anew",
        "reconciler/planning/status.py",
        "return all(a is b for a, b in zip(former, inputs, strict=False))",
        "return former is not inputs",
        ("tests/scenario",),
    ),
)
