"""How a run's work is spread over processes: what a step computes where, and what they exchange."""
