"""OCI images: had from a registry, a layout or an archive, and verified by their digests."""
