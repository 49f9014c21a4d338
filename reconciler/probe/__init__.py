"""Health checks of guests; every answer is a value."""
