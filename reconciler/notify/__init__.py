"""Tells people what happened: events of the ledger become messages, and each sink gets its own."""
