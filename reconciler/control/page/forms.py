"""What a person who signed in may do, as forms beside a page; they are never replaced by updates."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from reconciler.control.page.frame import Pieces
from reconciler.control.page.html import Html, h, join
from reconciler.control.page.sessions import Session
from reconciler.model.record import VMRecord

LONGEST_REASON = 200


def sign_in_page(trouble: str = "") -> Pieces:
    field = h(
        "input", type="password", name="token", required=True, autocomplete="current-password",
        autofocus=True,
    )  # fmt: skip
    form = h(
        "form",
        h("label", "Token ", field),
        h("button", "Sign in"),
        method="post",
        action="/login",
    )
    told = h("p", trouble, class_="notice bad", role="alert") if trouble else None
    why = h("p", "It stands in the file that http.token_file names.", class_="none")
    return Pieces("Sign in - microVMs", (), {}, join([h("h1", "Sign in"), told, form, why]))


def signed_out() -> Html:
    text = h("p", h("a", "Sign in", href="/login"), " to retry, roll back, promote or suspend.")
    return h("aside", text, aria_label="Actions", class_="actions")


def actions(session: Session, query: Mapping[str, str], record: VMRecord | None) -> Html:
    """For what a page shows: the host, a group or a VM."""
    name = query.get("name", "")
    match query.get("view"):
        case "vm":
            forms = _of_vm(session, name, record)
        case "group":
            forms = [
                _form(session, "Promote", {"op": "promote", "group": name}),
                *_suspension(session, f"group {name}", {"subject": f"group/{name}"}),
            ]
        case _:
            forms = _suspension(session, "this host", {})
    told = session.told
    session.told = None
    words = (
        h("p", told[0], class_="notice" if told[1] else "notice bad", role="status")
        if told
        else None
    )
    leave = h("form", _hidden("csrf", session.csrf), h("button", "Sign out"), method="post",
              action="/logout")  # fmt: skip
    return h(
        "aside", h("h2", "Actions"), words, h("div", *forms, leave, class_="forms"),
        aria_label="Actions", class_="actions",
    )  # fmt: skip


def _of_vm(session: Session, name: str, record: VMRecord | None) -> list[Html]:
    forms = [_form(session, "Retry", {"op": "retry", "vm": name})]
    good = [g.number for g in record.generations if g.verdict == "committed"] if record else []
    if len(good) > 1:
        options = [h("option", f"generation {n}", value=str(n)) for n in reversed(good[:-1])]
        choice = h("label", "to ", h("select", *options, name="to"))
        forms.append(_form(session, "Roll back", {"op": "rollback", "vm": name}, choice))
    return [*forms, *_suspension(session, name, {"subject": f"vm/{name}"})]


def _suspension(session: Session, what: str, subject: Mapping[str, str]) -> list[Html]:
    why = h("label", "because ", h("input", name="reason", maxlength=str(LONGEST_REASON)))
    return [
        _form(session, f"Suspend {what}", {"op": "suspend", **subject}, why),
        _form(session, f"Resume {what}", {"op": "resume", **subject}),
    ]


def _form(session: Session, verb: str, fields: Mapping[str, str], more: Html | None = None) -> Html:
    hidden = [_hidden(name, value) for name, value in {"csrf": session.csrf, **fields}.items()]
    return h("form", *hidden, h("button", verb), more, method="post", action="/act")


def _hidden(name: str, value: str) -> Html:
    return h("input", type="hidden", name=name, value=value)


def back_to(fields: Mapping[str, str], groups: frozenset[str]) -> str:
    """The page of what was acted on."""
    if "vm" in fields:
        return f"/vm/{quote(fields['vm'], safe='')}"
    subject = fields.get("group") or fields.get("subject")
    if not subject:
        return "/"
    kind, _, name = subject.rpartition("/")
    return f"/{kind or ('group' if name in groups else 'vm')}/{quote(name, safe='')}"
