"""Revisions from git: fetching, verification, signatures, and the mirror."""
