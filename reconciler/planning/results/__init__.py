"""What became of each revision, and of each VM in it."""
