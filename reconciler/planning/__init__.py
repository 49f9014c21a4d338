"""What to do, and why: pure decisions over values."""
