"""A tar becomes an image: read as a stream by a confined child, checked whole, and never unpacked."""
