"""Git in, desired state out."""
