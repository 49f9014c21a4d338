"""What is observed, recorded: results of actions, guests that were found, deadlines that passed."""
