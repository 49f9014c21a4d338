"""The runner of guests: QEMU first."""
