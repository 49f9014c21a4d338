"""Guards of the way to a repository, and of what is read there."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

KNOWN_HOSTS = ("tests/unit/source/test_knownhosts.py",)
TREES = (
    "tests/property/test_tree_modes.py",
    "tests/unit/test_gitobjects.py",
    "tests/unit/source/test_gitsource.py",
)
HTTPS = ("tests/unit/source/test_https.py",)
HISTORY = ("tests/unit/source/test_history.py",)

MUTANTS = (
    Mutant(
        "every host key is right",
        "reconciler/source/git/callbacks.py",
        "        return valid\n",
        "        return True\n",
        KNOWN_HOSTS,
    ),
    Mutant(
        "a revoked host key is trusted",
        "reconciler/source/git/known_hosts.py",
        "good = [line for line in plain[0] or plain[1] if line.key not in revoked]",
        "good = plain[0] or plain[1]",
        KNOWN_HOSTS,
    ),
    Mutant(
        "a damaged line of known_hosts is passed over",
        "reconciler/source/git/known_hosts.py",
        "return parts if at == len(blob) else []",
        "return parts",
        KNOWN_HOSTS,
    ),
    Mutant(
        "an entry of no kind is passed over",
        "reconciler/source/git/tree_objects.py",
        "odd.append((name, *OF_NO_KIND))",
        "pass",
        TREES,
    ),
    Mutant(
        "a padded mode is of no kind",
        "reconciler/git_objects.py",
        "    mode = int(written, 8)\n",
        '    mode = 0 if written.startswith(b"0") else int(written, 8)\n',
        TREES,
    ),
    Mutant(
        "an entry of no kind becomes a file of a layer",
        "reconciler/source/git/export_worker.py",
        "mode in (FILE, PROGRAM)",
        'mode in (FILE, PROGRAM, b"")',
        ("tests/unit/image/test_tree_layers.py",),
    ),
    Mutant(
        "a token goes to any port of the host",
        "reconciler/source/git/callbacks.py",
        'if wanted[0] != "https" or origin_of(url) != wanted:',
        'if wanted[0] != "https":',
        HTTPS,
    ),
    Mutant(
        "plain transport needs no consent",
        "reconciler/git_url.py",
        "    if scheme in PLAIN and not plain:\n",
        "    if not scheme:\n",
        ("tests/unit/test_config_paths.py",),
    ),
    Mutant(
        "a shallow repository is followed",
        "reconciler/source/git/fetch.py",
        "            raise unsupported(SHALLOW)\n",
        "            return\n",
        HISTORY,
    ),
    Mutant(
        "a commit beside the followed one continues it",
        "reconciler/source/git/commit_graph.py",
        "return any(oid == former for oid in ancestry(repository, revision, frozenset()))",
        "return True",
        HISTORY,
    ),
)
