"""The guards of the page: who may act, what is escaped, and what is bounded."""

from __future__ import annotations

from tests.mutants.guards import Mutant

PAGE = ("tests/unit/control",)

MUTANTS = (
    Mutant(
        "any token will do",
        "reconciler/control/page/acting.py",
        'if not self._token.matches(fields.get("token", "")):',
        'if not fields.get("token", ""):',
        PAGE,
    ),
    Mutant(
        "wrong tokens are not counted",
        "reconciler/control/page/acting.py",
        "            self._failures.count()\n",
        "",
        PAGE,
    ),
    Mutant(
        "a form needs no word of its session",
        "reconciler/control/page/acting.py",
        'if not session.owns(fields.pop("csrf", "")):',
        'if not session.owns(fields.pop("csrf", "") and session.csrf):',
        PAGE,
    ),
    Mutant(
        "a form may be of another origin",
        "reconciler/control/page/acting.py",
        'if origin.scheme not in ("http", "https") or origin.netloc != request.host:',
        'if origin.scheme not in ("http", "https"):',
        PAGE,
    ),
    Mutant(
        "a form may be of another site, if the origin fits",
        "reconciler/control/page/acting.py",
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
        "reconciler/control/page/sessions.py",
        "if session is not None and self._seconds() >= session.until:",
        "if session is not None and session.until < 0:",
        PAGE,
    ),
    Mutant(
        "scripts can read the session",
        "reconciler/control/page/sessions.py",
        "httponly=True",
        "httponly=False",
        PAGE,
    ),
    Mutant(
        "everybody's token file is taken",
        "reconciler/secretfile.py",
        "if private and stat.S_IMODE(mode) & 0o007:",
        "if private and stat.S_IMODE(mode) & 0o010000:",
        PAGE,
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
        "reconciler/control/page/routes.py",
        'if not is_known(request.url.host or ""):',
        "if not request.url.host:",
        PAGE,
    ),
    Mutant(
        "texts are taken for markup",
        "reconciler/control/page/html.py",
        "return text if text.isalnum() else html.escape(clean(text))",
        "return text if text.isalnum() else clean(text)",
        PAGE,
    ),
    Mutant(
        "a long history is read to its end",
        "reconciler/source/past.py",
        "min(most, MOST_COMMITS)",
        "most",
        ("tests/unit/source/test_past.py",),
    ),
    Mutant(
        "a status that is known is never told anew",
        "reconciler/planning/status.py",
        "return all(a is b for a, b in zip(former, inputs, strict=False))",
        "return former is not inputs",
        ("tests/scenario",),
    ),
)
