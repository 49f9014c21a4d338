"""VMMs and what their guests need of the host: a driver each, taps, volumes, folders of generations."""
