"""Keeps transformers' and huggingface_hub's warnings and progress bars off the user's terminal."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def quiet() -> Generator[None]:
    """Silences both libraries inside the block and puts their settings back after it.

    Errors still come as exceptions. stderr is diverted too, because the GGUF reader of transformers
    draws its progress bar there without asking its own setting.
    """
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    had_bars = logging.is_progress_bar_enabled()
    had_hub_bars = not are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()  # the hub's too
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()  # the hub's too
        if not had_hub_bars:
            disable_progress_bars()
