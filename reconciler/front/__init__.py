"""The front: holds ports of the host for guests that hand over to each other, and outlives them."""
