"""OCI images made in tests, and Debian's registry to serve them."""
