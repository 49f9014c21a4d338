"""A network namespace with a bridge, for the time of a test: it ends with whoever is in it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.wait import wait_until

SECONDS = 30
ASK = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=15).read().decode())"


class Namespace:
    """Commands run in it by `within`; /sys there shows its own interfaces."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--kill-child", "sleep", "900"]
        )
        self.within = (
            "nsenter", "--target", str(self._holder.pid), "--net", "--mount", "--root",
            f"--wd={Path.cwd()}", "--",
        )  # fmt: skip
        try:
            wait_until(self._is_apart, SECONDS, "a namespace of its own")
            self.run("mount", "-t", "sysfs", "sysfs", "/sys")
        except BaseException:
            self.close()
            raise

    def _is_apart(self) -> bool:
        kinds = ("net", "mnt")
        return all(
            Path(f"/proc/{self._holder.pid}/ns/{kind}").readlink()
            != Path(f"/proc/self/ns/{kind}").readlink()
            for kind in kinds
        )  # fmt: skip

    def run(self, *command: str) -> str:
        return subprocess.run(
            [*self.within, *command], check=True, timeout=SECONDS, capture_output=True, text=True
        ).stdout

    def ip(self, *words: str) -> None:
        self.run("ip", *words)

    def links(self) -> dict[str, dict[str, Any]]:
        """The interfaces, by their names, as `ip` tells of them."""
        return {one["ifname"]: one for one in json.loads(self.run("ip", "-j", "-d", "link"))}

    def ask(self, url: str) -> str:
        """GET from inside; the answer's text."""
        return self.run(sys.executable, "-c", ASK, url).strip()

    def python(self, expression: str) -> str:
        return self.run(sys.executable, "-c", f"print({expression})").strip()

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait(SECONDS)
