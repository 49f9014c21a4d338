"""Keepers of VMM processes."""
