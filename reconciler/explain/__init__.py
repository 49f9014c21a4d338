"""Explanations for people: the state of VMs, what each waits for, and the result of a revision. Pure."""
