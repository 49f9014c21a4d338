"""Guards proven: each guard of the laws is taken out in turn, and a test must notice."""
