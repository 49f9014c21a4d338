"""A stand-in for QEMU in real processes: it lives, answers QMP, and turns a deaf ear to its power button.

Who presses is noted in `pressed.PID` of its folder.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

GREETING = {"QMP": {"version": {"qemu": {"major": 7}, "package": ""}, "capabilities": []}}


def main() -> None:
    path = Path("run/qmp.sock")
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        while True:
            client, _ = listener.accept()
            with client:
                serve(client)


def serve(client: socket.socket) -> None:
    answer(client, GREETING)
    while asked := client.recv(65536):
        for line in filter(None, asked.replace(b"}{", b"}\n{").splitlines()):
            request = json.loads(line)
            if request["execute"] == "system_powerdown":
                with Path(f"pressed.{os.getpid()}").open("a") as noted:
                    noted.write("pressed\n")
            answer(client, {"return": {}, **({"id": request["id"]} if "id" in request else {})})


def answer(client: socket.socket, message: object) -> None:
    client.sendall(json.dumps(message).encode() + b"\r\n")


if __name__ == "__main__":
    main()
