"""The faces of a running daemon: HTTP over a unix socket, and a read-only TCP port."""
