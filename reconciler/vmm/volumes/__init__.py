"""The writable disks of guests: files of the host, the same for every VMM."""
