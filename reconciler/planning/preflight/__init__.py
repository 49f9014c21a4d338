"""What must hold before a guest is started: images, ports, bridges, snapshots."""
