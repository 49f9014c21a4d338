"""A second opinion on each plan: the laws, checked without the code that made the plan."""
