"""The ledger: the record, its events and intents, made durable."""
