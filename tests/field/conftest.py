"""What the tests of reports share: a cache of their own and tiny models."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.templates import make_stand_in
from tests.fakes.tiny import make_tokenizer
from tunesmith.data.prepared.tokenizer_source import TokenizerSource


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def chatml(tmp_path: Path) -> TokenizerSource:
    """The tokenizer of a model that chats in ChatML."""
    return TokenizerSource(str(make_tokenizer(tmp_path / "tiny-chatml")))


@pytest.fixture
def calls_tools(tmp_path: Path) -> TokenizerSource:
    """The tokenizer of a model that knows tools."""
    return TokenizerSource(str(make_stand_in(tmp_path / "calls-tools", "qwen-2.5")))
