"""Notifications: turns events of the ledger into messages, and delivers them to each sink."""
