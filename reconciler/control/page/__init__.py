"""The web page on the read-only face: the fleet and each VM, live, with nothing to change."""
