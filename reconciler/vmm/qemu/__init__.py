"""QEMU: the machine as an argv, and QMP."""
