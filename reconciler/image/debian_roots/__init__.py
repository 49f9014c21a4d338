"""Root file systems of Debian packages, made by a small builder that is a program of its own."""
