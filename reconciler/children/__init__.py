"""Programs that this host runs for us: each bounded, with a deadline, and in a group of its own."""
