"""The web page: fleet, VMs, rollouts and commits, live; with a token, a few actions."""
