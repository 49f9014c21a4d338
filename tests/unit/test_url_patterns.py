"""Which URLs a pattern allows: one server, and what of it; nothing that only looks like it."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from reconciler.config import parse_config
from reconciler.errors import ConfigError
from reconciler.url_patterns import allowed

ONE = ("https://images.example.org/builds/*",)


@pytest.mark.parametrize(
    ("url", "pattern"),
    [
        ("https://images.example.org/builds/web.erofs", *ONE),
        ("https://images.example.org/builds/a/b/web.erofs?x=1", *ONE),
        ("https://IMAGES.example.org:443/builds/web.erofs", *ONE),
        ("https://a.cdn.example.org/x", "https://*.cdn.example.org/*"),
        ("https://a.b.cdn.example.org/x", "https://*.cdn.example.org/*"),
        ("https://images.example.org:8443/x", "https://images.example.org:8443/*"),
        ("http://127.0.0.1:9/x", "http://127.0.0.1:9/*"),
        ("http://[::1]:9/x", "http://[::1]:9/*"),
        ("https://images.example.org", "https://images.example.org/"),
    ],
)
def test_a_url_below_a_pattern_is_allowed(url: str, pattern: str) -> None:
    assert allowed(url, (pattern,))


@pytest.mark.parametrize(
    ("url", "pattern"),
    [
        ("http://images.example.org/builds/web.erofs", *ONE),
        ("https://images.example.org.evil.example/builds/web.erofs", *ONE),
        ("https://images.example.org:8443/builds/web.erofs", *ONE),
        ("https://images.example.org@evil.example/builds/x", *ONE),
        ("https://evil.example/https://images.example.org/builds/x", *ONE),
        ("https://images.example.org/other/web.erofs", *ONE),
        ("https://images.example.org/builds/../other/x", *ONE),
        ("https://images.example.org/builds/%2e%2e/other/x", *ONE),
        ("https://images.example.org/builds/..%2fother/x", *ONE),
        ("https://images.example.org/builds\\..\\other", *ONE),
        ("https://images.example.org:99999/builds/x", *ONE),
        ("https://images.example.org:/builds/\n", *ONE),
        ("https://\u0131mages.example.org/builds/x", *ONE),
        ("https://cdn.example.org/x", "https://*.cdn.example.org/*"),
        ("https://evilcdn.example.org/x", "https://*.cdn.example.org/*"),
        ("file:///builds/x", *ONE),
        ("https:///builds/x", *ONE),
        ("", *ONE),
        ("http://127.0.0.2:9/x", "http://127.0.0.1:9/*"),
    ],
)
def test_a_url_that_only_looks_like_it_is_not(url: str, pattern: str) -> None:
    assert not allowed(url, (pattern,))


@given(st.text(max_size=80))
def test_no_text_leads_to_another_server(text: str) -> None:
    for url in (f"https://{text}", f"https://evil.example/{text}", text):
        if allowed(url, ONE):
            assert url.lower().startswith(
                ("https://images.example.org/", "https://images.example.org:")
            )


@pytest.mark.parametrize(
    "pattern",
    [
        "*", "https://*", "https://*/", "https://images.example.org*", "https://images.example.org",
        "http://images.example.org/*", "https://user@images.example.org/*", "https://a.*.org/*",
        "https://*.*/x", "ftp://images.example.org/*", "http://127.0.0.1.example.org/*",
    ],
)  # fmt: skip
def test_a_pattern_that_names_no_server_is_refused_with_the_config(pattern: str) -> None:
    raw: dict[str, object] = {"source": {"url": "/r"}, "policy": {"image_urls": [pattern]}}
    with pytest.raises(ConfigError, match=r"policy.image_urls\[0\]: .*is no pattern of URLs"):
        parse_config(raw, "config.toml")
