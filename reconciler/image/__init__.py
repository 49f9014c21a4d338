"""Store images: layers, kernel bundles, and their collection."""
