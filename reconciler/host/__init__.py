"""The host: what it can give, and where its files are."""
