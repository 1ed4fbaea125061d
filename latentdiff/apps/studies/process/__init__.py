"""Studies of the forward process and of noise schedules."""
