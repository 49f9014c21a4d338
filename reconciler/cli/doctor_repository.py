"""The way to the repository, as far as it can be looked at without asking any server."""

from __future__ import annotations

import os
from pathlib import Path

from reconciler.cli.doctor_findings import Finding, Result
from reconciler.config import SourceConfig
from reconciler.errors import SourceError
from reconciler.git_url import local_path
from reconciler.source.git import callbacks, known_hosts as knownhosts, local_access as localaccess

NAME = "repository"
CREDENTIALS = Path("/run/credentials")
"""What systemd hands to the daemon is there for it alone, and only while it runs."""


def check_repository(source: SourceConfig) -> list[Finding]:
    """Whether it may be read where it is here, and whether its server and we can know each other."""
    found = []
    if (local := local_path(source.url)) is not None:
        fault = localaccess.unreachable(local) or localaccess.unreadable(local)
        found.append(refused(fault) if fault else Finding(NAME, "ok", f"{local} can be read"))
    try:
        server = knownhosts.server_of(source.url)
        if server is not None:
            known = knownhosts.trust(server, source.known_hosts)
            words = f"{len(known.keys)} host key(s) of {server.name} in {known.files}"
            found.append(Finding(NAME, "ok", words))
        if source.token_file:
            callbacks.token_in(source.token_file)
            found.append(Finding(NAME, "ok", f"the token in {source.token_file} can be read"))
    except SourceError as error:
        found.append(refused(error, source.token_file, source.known_hosts))
    return found


def refused(error: SourceError, *files: str) -> Finding:
    """A warning where the daemon may find it otherwise, or it may yet be made."""
    elsewhere = any(CREDENTIALS in Path(file).parents for file in files)
    result: Result = "failed"
    if elsewhere or os.geteuid() != 0 or error.kind == "missing":
        result = "warning"
    return Finding(NAME, result, str(error), error.hint)
