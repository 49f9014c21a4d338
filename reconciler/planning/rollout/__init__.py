"""Which VM may change now: order, budget, windows, suspension, and the generation it should run."""
