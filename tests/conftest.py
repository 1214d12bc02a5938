"""What holds for every test."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tunesmith.data.prepared import prepare

# A shell gives what it starts in the background a Ctrl-C that is ignored, and so would all that the
# tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# DeepSpeed, which transformers loads to save a model, else says on standard output that it found no
# other device.
os.environ.setdefault("DS_ACCELERATOR", "cpu")


@pytest.fixture(scope="session")
def _prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture(autouse=True)
def _prepared_rows_of_tests_stay_out_of_the_users_cache(
    monkeypatch: pytest.MonkeyPatch, _prepared: Path
) -> None:
    monkeypatch.setattr(prepare, "prepared_root", lambda: _prepared)
