"""How the threads of a computing process wait for each other.

Torch's threads meet thousands of times a second. By default GNU OpenMP lets a thread that arrives
early spin, for billions of rounds where there are as many threads as cores. Alone on the machine
that is the fastest; but with one busy program beside it, a spinning thread keeps the core that the
late one needs, and a step takes 20 times as long. After 1,000 rounds the thread sleeps instead: 4%
slower alone, twice as slow beside the other program (docs/decisions/2026-11-25-waiting-threads.md).
"""

from __future__ import annotations

import os
from collections.abc import Mapping

# The OpenMP library reads these once, when it is loaded, so they belong to a process's start.
SPIN_VARIABLE = "GOMP_SPINCOUNT"
ROUNDS = "1000"
CHOSEN_BY_USER = (SPIN_VARIABLE, "OMP_WAIT_POLICY")


def with_short_spins(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a process that computes; what its user has set stays."""
    environment = dict(os.environ if environment is None else environment)
    if not any(name in environment for name in CHOSEN_BY_USER):
        environment[SPIN_VARIABLE] = ROUNDS
    return environment
