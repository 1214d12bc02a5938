"""What holds for every test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith.data.prepared import prepare


@pytest.fixture(scope="session")
def _prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture(autouse=True)
def _prepared_rows_of_tests_stay_out_of_the_users_cache(
    monkeypatch: pytest.MonkeyPatch, _prepared: Path
) -> None:
    monkeypatch.setattr(prepare, "prepared_root", lambda: _prepared)
