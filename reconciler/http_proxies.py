"""The HTTP proxy for a URL, from the environment variables that curl and git use."""

from __future__ import annotations

import ipaddress
from urllib.request import getproxies_environment, proxy_bypass

from reconciler.git_url import MASK, origin_of

SCHEMES = ("http", "https")


class UnsupportedProxy(ValueError):
    """The environment names a proxy of a kind that is not supported."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def proxy_for(url: str) -> str | None:
    """The proxy for an http or https URL; None for a direct connection. Raises UnsupportedProxy.

    Loopback addresses never use a proxy: it would connect to itself.
    """
    scheme, host, port = origin_of(url)
    if scheme not in SCHEMES or is_loopback(host):
        return None
    known = getproxies_environment()
    proxy = known.get(scheme) or known.get("all")
    if not proxy or proxy_bypass(f"{host.strip('[]')}:{port}"):
        return None
    kind, separator, _ = proxy.partition("://")
    if not separator:
        return f"http://{proxy}"
    if kind.lower() not in SCHEMES:
        raise UnsupportedProxy(
            f"{kind[:20]}:// proxies are not supported",
            f"set {scheme}_proxy to an http:// or https:// proxy, or add {host} to no_proxy",
        )
    return proxy


def is_loopback(host: str) -> bool:
    """Whether a host is localhost or a loopback address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def shown(proxy: str) -> str:
    """A proxy's address without user and password."""
    scheme, _, rest = proxy.partition("://")
    userinfo, _, place = rest.rpartition("@")
    return f"{scheme}://{MASK}@{place}" if userinfo else proxy
