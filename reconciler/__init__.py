"""Push a manifest, get a microVM."""
