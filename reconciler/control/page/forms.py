"""What a person who signed in may do, as forms beside a page; they are never replaced by updates."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from reconciler.control.page.html import Html, h
from reconciler.model.record import VMRecord

LONGEST_REASON = 200


def only_reading(*, acts: bool) -> Html:
    """For those who signed in with a token that only shows."""
    how = "Sign in with the token of http.token_file to act." if acts else None
    return h(
        "aside", h("p", how) if how else None, _leave(), aria_label="Actions", class_="actions"
    )


def actions(query: Mapping[str, str], record: VMRecord | None) -> Html:
    """For what a page shows: the host, a group or a VM."""
    name = query.get("name", "")
    match query.get("view"):
        case "vm":
            forms = _of_vm(name, record)
        case "group":
            forms = [
                _form("Promote", {"op": "promote", "group": name}),
                *_suspension(f"group {name}", {"subject": f"group/{name}"}),
            ]
        case _:
            forms = _suspension("this host", {})
    return h(
        "aside", h("h2", "Actions"), h("div", *forms, _leave(), class_="forms"),
        aria_label="Actions", class_="actions",
    )  # fmt: skip


def _leave() -> Html:
    return h("form", h("button", "Sign out"), method="post", action="/logout")


def _of_vm(name: str, record: VMRecord | None) -> list[Html]:
    forms = [_form("Retry", {"op": "retry", "vm": name})]
    good = [g.number for g in record.generations if g.verdict == "committed"] if record else []
    if len(good) > 1:
        options = [h("option", f"generation {n}", value=str(n)) for n in reversed(good[:-1])]
        choice = h("label", "to ", h("select", *options, name="to"))
        forms.append(_form("Roll back", {"op": "rollback", "vm": name}, choice))
    return [*forms, *_suspension(name, {"subject": f"vm/{name}"})]


def _suspension(what: str, subject: Mapping[str, str]) -> list[Html]:
    why = h("label", "because ", h("input", name="reason", maxlength=str(LONGEST_REASON)))
    return [
        _form(f"Suspend {what}", {"op": "suspend", **subject}, why),
        _form(f"Resume {what}", {"op": "resume", **subject}),
    ]


def _form(verb: str, fields: Mapping[str, str], more: Html | None = None) -> Html:
    hidden = [_hidden(name, value) for name, value in fields.items()]
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
