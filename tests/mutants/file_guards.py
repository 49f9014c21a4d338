"""The guards around files of others: which are taken, from where, and what a script of the host may leave."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

WORKER = "reconciler/image/download_worker.py"
DOWNLOADS = "tests/unit/image/test_downloads.py"
ANSWERS = "tests/unit/image/test_download_answers.py"
SCRIPTS = "tests/unit/image/test_script_layers.py"

MUTANTS = (
    Mutant(
        "a redirect may lead anywhere",
        WORKER,
        "            if not allowed(url, self._request.allowed):\n",
        "            if not allowed(self._request.url, self._request.allowed):\n",
        (ANSWERS,),
    ),
    Mutant(
        "a part of another range is appended",
        WORKER,
        "            if _first(answer) != offset:\n",
        "            if _first(answer) is None:\n",
        (DOWNLOADS,),
    ),
    Mutant(
        "an endless answer is stored",
        WORKER,
        "            if offset > self._request.most_bytes:\n",
        "            if offset < 0:\n",
        (DOWNLOADS, ANSWERS),
    ),
    Mutant(
        "a file of another sha256 is believed",
        "reconciler/image/downloads.py",
        "        if not right:\n",
        "        if not right and resumed:\n",
        (DOWNLOADS,),
    ),
    Mutant(
        "a file of the host that changed is taken",
        "reconciler/image/inputs/image.py",
        "    if not stop.is_set() and digest.hexdigest() != source.sha256:\n",
        "    if not stop.is_set() and not digest.hexdigest():\n",
        ("tests/unit/image/test_image_layers.py",),
    ),
    Mutant(
        "links to files of the host are followed",
        "reconciler/untrusted_file.py",
        "        return os.open(name, os.O_RDONLY | SAFE, dir_fd=at)\n",
        "        return os.open(name, os.O_RDONLY | os.O_NONBLOCK, dir_fd=at)\n",
        ("tests/unit/image/test_image_layers.py",),
    ),
    Mutant(
        "a pattern of URLs is of any port",
        "reconciler/url_patterns.py",
        "asked.scheme != form.scheme or _port(asked) != _port(form):",
        "asked.scheme != form.scheme:",
        ("tests/unit/test_url_patterns.py",),
    ),
    Mutant(
        "dots in a URL's path lead out of a pattern",
        "reconciler/url_patterns.py",
        "    if dots or found.scheme not in PORTS",
        "    if found.scheme not in PORTS",
        ("tests/unit/test_url_patterns.py",),
    ),
    Mutant(
        "any script of the host runs",
        "reconciler/model/layer_kinds/script_layer.py",
        "        if self.run in policy.scripts:\n",
        "        if self.run:\n",
        ("tests/unit/source/test_script_manifests.py",),
    ),
    Mutant(
        "a script that changed runs",
        "reconciler/image/inputs/script.py",
        "    if found != sha256:\n",
        "    if not found:\n",
        (SCRIPTS,),
    ),
    Mutant(
        "a setuid bit of a script becomes root's",
        "reconciler/image/written_tree.py",
        "    if mode & (stat.S_ISUID | stat.S_ISGID):\n",
        "    if mode & stat.S_ISGID:\n",
        (SCRIPTS,),
    ),
    Mutant(
        "what a script leaves running goes on",
        "reconciler/children/process_tree.py",
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    end_descendants()\n",
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n",
        ("tests/unit/image/test_process_trees.py",),
        before="            status = _run(argv)\n",
    ),
    Mutant(
        "a script reaches the network",
        "reconciler/children/offline.py",
        "        (EQUAL, 0, 1, socket.AF_UNIX),\n",
        "        (EQUAL, 0, 0, socket.AF_UNIX),\n",
        ("tests/unit/image/test_offline.py",),
    ),
    Mutant(
        "a typing error in a path of owners goes unseen",
        "reconciler/image/owned_tree.py",
        "    for path in owners.unused:\n",
        "    for path in owners.unused[:0]:\n",
        ("tests/unit/image/test_owned_trees.py",),
    ),
    Mutant(
        "a pointer of Git LFS is a file",
        "reconciler/source/git/export_worker.py",
        "if content.startswith(LFS_POINTER) and len(content) < MOST_POINTER_BYTES:",
        "if content.startswith(LFS_POINTER) and not content:",
        ("tests/unit/image/test_owned_trees.py",),
    ),
)
