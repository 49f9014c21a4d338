"""A program in a VMM's place, for stories that are not about guests: `standin_vmm.py PORT FOLDER`.

It serves the folder as a guest would its pages, says something on its console, and ends when QMP's power
button is pressed at `web.sock`, where microvm.nix's runner of QEMU has it.
"""

from __future__ import annotations

import functools
import http.server
import os
import socketserver
import sys
import threading
from pathlib import Path

SOCKET = Path("web.sock")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Button(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b'{"QMP": {}}\n')
        for line in self.rfile:
            if b"system_powerdown" in line:
                SOCKET.unlink()
                os._exit(0)


class Pages(http.server.ThreadingHTTPServer):
    allow_reuse_address = True


def main(port: str, folder: str) -> None:
    sys.stdout.write("the guest boots\n")
    sys.stdout.flush()
    SOCKET.unlink(missing_ok=True)
    button = socketserver.ThreadingUnixStreamServer(str(SOCKET), Button)
    threading.Thread(target=button.serve_forever, daemon=True).start()
    Pages(("127.0.0.1", int(port)), functools.partial(Quiet, directory=folder)).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
