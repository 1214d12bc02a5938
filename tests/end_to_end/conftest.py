"""The catalogue model for tests that need real weights; absent where it can't be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith.core.errors import ModelError
from tunesmith.models.prepare import prepare_model


@pytest.fixture(scope="session")
def real_model() -> Path:
    try:
        return prepare_model("smollm2-135m-instruct").folder
    except ModelError as error:
        pytest.skip(f"the catalogue model is not to be had: {error.faults[0].found}")
