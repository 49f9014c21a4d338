"""Answers to what people ask of the engine. Pure."""
