"""Strangers' bytes, by the million: `./dev fuzz`."""
