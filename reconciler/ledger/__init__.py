"""What must be remembered, durably."""
