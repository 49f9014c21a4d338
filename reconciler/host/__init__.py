"""The state directory: where everything in it is, and who may use it."""
