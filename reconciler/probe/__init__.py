"""Health questions to guests; every answer is a value."""
