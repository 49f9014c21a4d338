"""The templates of the page: what they show is escaped and cleaned, and none goes around that."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import pytest
from jinja2 import nodes

import reconciler.control.page
from reconciler.control.page.rendering import macro, render, short

FOLDER = Path(reconciler.control.page.__file__).parent / "templates"
TEMPLATES = sorted(FOLDER.glob("*.html"))
HARMLESS = {"dictsort", "length", "reverse", "sort", "urlencode"}
"""Filters of Jinja2 that make no text, or one without anything to escape or to clean."""
OURS = {"badge", "generation", "moment", "short", "vm_link"}
"""Filters that are templates themselves."""


def test_a_text_is_escaped_and_cleaned_in_an_attribute_and_beside_tags() -> None:
    shown = short('<&>"\u202e\x1b[1m')
    assert shown == ('<code title="&lt;&amp;&gt;&#34;\\u202e">&lt;&amp;&gt;&#34;\\u202e</code>')


def test_what_a_template_made_is_not_escaped_twice() -> None:
    assert "&amp;lt;" not in macro("shared.html", "waiting", Waiting())


class Waiting:
    why = "<"
    until_wall = 1.0


def test_a_template_that_asks_for_a_value_it_was_not_given_fails() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render("sign_in.html")


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_goes_around_escaping_or_cleaning(path: Path) -> None:
    """`~`, `|join`, `|format` and `|safe` make texts that are taken for markup, or not cleaned."""
    tree = jinja2.Environment(autoescape=True).parse(path.read_text())
    assert not list(tree.find_all((nodes.Concat, nodes.MarkSafe, nodes.ScopedEvalContextModifier)))
    assert {node.name for node in tree.find_all(nodes.Filter)} <= HARMLESS | OURS


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_each_value_in_an_attribute_is_quoted_and_none_is_in_a_script(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"=\s*{{", text)
    assert not re.search(r"<(script|style)[^>]*>\s*[^<\s]", text)
    assert not re.search(r"\s(on\w+|style)=", text)


def test_only_the_templates_make_markup() -> None:
    made = {
        path.name: path.read_text().count("Markup(")
        for path in FOLDER.parent.glob("*.py")
        if "Markup(" in path.read_text()
    }
    assert made == {"rendering.py": 1}, "the line end between pieces"
