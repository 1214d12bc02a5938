"""A run's numbers in the trackers that people use, read from its folder; the run knows of none."""
