"""Answers to people's requests to the engine. Pure."""
