"""What people are told: the state of VMs, what each waits for, and what became of a revision. Pure."""
