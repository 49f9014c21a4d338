"""What stands in a generation's folder: scripts that people and microvm.nix can run, and facts."""

from __future__ import annotations

import functools
import shlex
from dataclasses import dataclass

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from reconciler.errors import DriverError
from reconciler.host import layout
from reconciler.model.machine import Launch, Machine
from reconciler.model.record import Generation

RUN_SCRIPT = """\
#!/bin/sh
# Generation {number} of {vm}. Written by microvm-reconciler; changes are lost.
# By hand: only while the daemon does not run this VM. flock(1) takes the lock that the daemon
# takes too, and the VMM inherits it.
set -eu
cd {folder}
mkdir -p run
exec 9>>lock
flock --exclusive --nonblock 9
{exports}cd {cwd}
exec {command}
"""

SHUTDOWN_SCRIPT = """\
#!/bin/sh
# Presses the power button of {vm} and waits until its VMM is gone.
set -eu
cd {cwd}
{command}
exec flock --exclusive --timeout 10 {folder}/lock true
"""


@dataclass(frozen=True, slots=True)
class Description:
    """The content of generation.json."""

    generation: Generation
    machine: Machine


@functools.cache
def _adapter() -> TypeAdapter[tuple[Description]]:
    """Made on first use, as it takes tens of milliseconds.

    Of a one-tuple, because pydantic takes no configuration for a bare dataclass.
    """
    return TypeAdapter(tuple[Description], config=ConfigDict(ser_json_inf_nan="constants"))


def described(text: bytes) -> Generation | None:
    """The generation that a generation.json describes; None when it is not one."""
    try:
        return _adapter().validate_json(text)[0].generation
    except ValidationError:
        return None


def contents(machine: Machine, launch: Launch, generation: Generation) -> dict[str, str]:
    """The files of a runner, by their paths; a path under bin/ is executable."""
    exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in launch.env)
    try:
        facts = _adapter().dump_json((Description(generation, machine),), indent=2).decode()
    except (PydanticSerializationError, UnicodeError) as error:
        raise DriverError(f"{generation.vm}: not Unicode: {error}", kind="folder") from error
    cwd, folder = shlex.quote(launch.cwd), shlex.quote(machine.folder)
    return {
        "bin/microvm-run": RUN_SCRIPT.format(
            number=generation.number,
            vm=generation.vm,
            cwd=cwd,
            folder=folder,
            exports=exports,
            command=shlex.join(launch.argv),
        ),
        "bin/microvm-shutdown": SHUTDOWN_SCRIPT.format(
            vm=generation.vm, cwd=cwd, folder=folder, command=shlex.join(launch.power_button)
        ),
        "share/microvm/hypervisor": f"{generation.spec.hypervisor}\n",
        layout.DESCRIPTION: f"{facts}\n",
    }
