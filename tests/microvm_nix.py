"""A folder of the shape that microvm.nix gives a runner, as its reference describes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

WAITS = 'exec -a "microvm@web" sleep 1000'
"""In place of the VMM; microvm.nix ends its script with such an exec, under bash."""


def make_runner(
    folder: Path,
    run: str = WAITS,
    shutdown: str | None = None,
    more: Mapping[str, str] | None = None,
) -> Path:
    """A runner of QEMU without interfaces of the host; `more` are other files of it."""
    files = {
        "bin/microvm-run": f"#!/bin/bash\nset -eou pipefail\nruntime_args=\n{run}\n",
        "bin/microvm-balloon": "#!/bin/sh\n",
        "share/microvm/hypervisor": "qemu\n",
        "share/microvm/tap-flags": "\n",
        "share/microvm/tap-interfaces": "",
        "share/microvm/macvtap-interfaces": "",
        "share/microvm/pci-devices": "",
        "share/microvm/usb-devices": "",
        **(more or {}),
    }
    if shutdown is not None:
        files["bin/microvm-shutdown"] = f"#!/bin/bash\nset -eou pipefail\n{shutdown}\n"
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755 if name.startswith("bin/") else 0o644)
    (folder / "share/microvm/system").symlink_to("/nix/store/0-nixos-system-web")
    return folder
