"""What a manifest says of each kind of layer: one module a kind."""
