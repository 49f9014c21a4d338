"""The listeners of a running daemon: HTTP on a unix socket, and a TCP port that is read-only without a token that acts."""
