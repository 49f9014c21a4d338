"""Whether a generation on trial is committed or rolled back, and what is put on hold."""
