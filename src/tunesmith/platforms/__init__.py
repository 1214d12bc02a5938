"""Where runs happen. A platform starts a run as a process, by name; it never imports the run."""
