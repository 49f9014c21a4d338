"""The proxy that holds published ports while guests take each other's place."""
