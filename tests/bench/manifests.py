"""Fleets of any size in a real repository: one manifest and one tree of its own for each VM."""

from __future__ import annotations

from demo.repository import Repository

MANIFEST = """\
apiVersion: reconciler/v1
kind: MicroVM
metadata: {{name: {name}, labels: {{tier: bench}}}}
spec:
  memory: {memory}MiB
  store: {{layers: [{{busybox: {{}}}}, {{tree: ./{name}}}]}}
  interfaces: [{{type: user}}]
  health: {{minHealthyTime: 0s, period: 10s, checks: [{{process: {{}}}}]}}
"""
SMALLEST = 64
"""MiB of memory that a VM asks for at first."""


def name_of(number: int) -> str:
    return f"vm-{number:05d}"


def declare(repository: Repository, number: int, memory: int = SMALLEST) -> None:
    """Write a VM's manifest; another `memory` is a change of one file that restarts one VM."""
    name = name_of(number)
    repository.write(f"{name}.yaml", MANIFEST.format(name=name, memory=memory))


def page(repository: Repository, number: int, text: str) -> None:
    """Write the one file of a VM's tree; another text is a new layer, and restarts one VM."""
    repository.write(f"{name_of(number)}/index.html", f"{name_of(number)}: {text}\n")


def fill(repository: Repository, count: int) -> str:
    """A fleet of `count` VMs in one push; its revision."""
    for number in range(count):
        declare(repository, number)
        page(repository, number, "first")
    return repository.push(f"{count} VMs")
