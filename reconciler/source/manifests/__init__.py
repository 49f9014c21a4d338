"""From YAML documents to a desired state, and errors with their place in the file."""
