"""What every layer may use: errors, events, the run folder, hardware facts. Imports no torch."""
