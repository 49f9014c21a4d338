"""The main job on real guests, shown step by step; the integration tests use its stage too."""
