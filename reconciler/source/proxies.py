"""Which proxy is asked for an address, by the variables that curl and git look at."""

from __future__ import annotations

from urllib.request import getproxies_environment, proxy_bypass

from reconciler.giturl import MASK, origin_of
from reconciler.source.failures import failure

SCHEMES = ("http", "https")


def proxy_for(url: str) -> str | None:
    """The proxy of http and https addresses; None to go without. Raises SourceError: unsupported."""
    scheme, host, port = origin_of(url)
    if scheme not in SCHEMES:
        return None
    known = getproxies_environment()
    proxy = known.get(scheme) or known.get("all")
    if not proxy or proxy_bypass(f"{host.strip('[]')}:{port}"):
        return None
    kind, separator, _ = proxy.partition("://")
    if not separator:
        return f"http://{proxy}"
    if kind.lower() not in SCHEMES:
        raise failure(
            "unsupported", f"{kind[:20]}:// is no kind of proxy that is supported",
            f"let {scheme}_proxy name one of http:// or https://, or no_proxy {host}",
        )  # fmt: skip
    return proxy


def shown(proxy: str) -> str:
    """Its address, without user and password."""
    scheme, _, rest = proxy.partition("://")
    userinfo, _, place = rest.rpartition("@")
    return f"{scheme}://{MASK}@{place}" if userinfo else proxy
