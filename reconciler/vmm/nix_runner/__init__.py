"""Guests that a runner of microvm.nix starts and stops."""
