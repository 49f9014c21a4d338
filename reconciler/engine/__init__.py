"""The loop: observe, plan, check, execute, record."""
