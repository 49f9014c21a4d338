"""The faces of a running daemon: HTTP over a unix socket, and a TCP port that only shows, unless a token is set."""
