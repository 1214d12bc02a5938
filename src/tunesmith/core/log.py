"""Set-up of logging for the processes' main functions. Library code only asks for a logger."""

from __future__ import annotations

import logging

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def set_up_logging(*, debug: bool = False) -> None:
    """Send log lines to standard error: warnings, and from Tunesmith everything from `info` on."""
    logging.basicConfig(format=FORMAT, level=logging.WARNING, force=True)
    logging.getLogger("tunesmith").setLevel(logging.DEBUG if debug else logging.INFO)
    logging.captureWarnings(True)
