"""What `./dev bench` measures: figures beside their targets and beside a yardstick of the same run."""
