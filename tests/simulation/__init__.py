"""Random lives of a host, each from a seed: commits, faults, crashes, people; oracles after every step."""
