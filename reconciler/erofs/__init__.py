"""Writes images of erofs from entries that arrive one after the other; it reads nothing of this host."""
