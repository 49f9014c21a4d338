"""What layers are made of: one module for each kind of input."""
