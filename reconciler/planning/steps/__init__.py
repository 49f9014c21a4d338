"""What is done to one VM next: start, stop, handover, rename, removal."""
