from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from tunesmith.core.errors import DataError
from tunesmith.data.hub_dataset import choose_files
from tunesmith.data.row import RowFault
from tunesmith.data.rows import Row, read_rows
from tunesmith.data.source import find_files
from tunesmith.recipe.hub_name import HubName, parse_hub_name


@dataclass
class FakeHub:
    """A hub with one data set, whose files lie in a folder."""

    folder: Path
    fails_with: Exception | None = None
    asked: list[Any] = field(default_factory=list)

    def dataset_info(self, repo: str, *, revision: str | None, timeout: float) -> Any:
        self.asked.append((repo, revision, timeout))
        if self.fails_with:
            raise self.fails_with
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        names = [str(path.relative_to(self.folder)) for path in files]
        siblings = [huggingface_hub.hf_api.RepoSibling(name) for name in names]
        return type("Info", (), {"sha": "c0ffee", "siblings": siblings})

    def download(self, repo: str, file: str, *, revision: str, **options: Any) -> str:
        assert options["repo_type"] == "dataset"
        self.asked.append((repo, file, revision))
        return str(self.folder / file)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: fake)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fake.download)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return fake


def put(hub: FakeHub, *names: str) -> None:
    for name in names:
        path = hub.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"a": "' + name + '"}\n')


def read(source: str) -> list[str]:
    return [row.values["a"] for row in read_rows(source) if isinstance(row, Row)]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("owner/name", HubName("owner/name")),
        ("owner/name-1.5:test", HubName("owner/name-1.5", "test")),
        ("o/n@v1.0", HubName("o/n", "train", "v1.0")),
        ("o/n:main/train@refs/pr/1", HubName("o/n", "main/train", "refs/pr/1")),
        ("o/n@v1:test", HubName("o/n", "test", "v1")),
        ("name", None), ("a/b/c", None), ("./a/b", None), ("a/b.jsnl", None), ("~/a", None),
        ("/a/b", None), ("a/b.jsonl", None), ("a\\b", None), ("", None),
    ],
)  # fmt: skip
def test_a_hub_name_is_told_from_a_path(text: str, name: HubName | None) -> None:
    assert parse_hub_name(text) == name


def test_the_files_of_a_split_are_fetched_at_one_commit(hub: FakeHub) -> None:
    put(hub, "data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl")
    put(hub, "data/test-00000-of-00001.jsonl", "README.md", ".gitattributes")
    assert len(read("owner/name")) == 2
    assert read("owner/name:test@v2") == ["data/test-00000-of-00001.jsonl"]
    assert ("owner/name", "v2", 10) in hub.asked
    assert ("owner/name", "data/test-00000-of-00001.jsonl", "c0ffee") in hub.asked
    file = find_files("owner/name:test")[0]
    assert file.shown == "owner/name/data/test-00000-of-00001.jsonl"


def test_a_folder_of_the_same_name_comes_first(hub: FakeHub) -> None:
    path = Path("owner/name")
    path.mkdir(parents=True)
    (path / "d.jsonl").write_text('{"a": "mine"}\n')
    assert read("owner/name") == ["mine"]
    assert not hub.asked


@pytest.mark.parametrize(
    ("files", "split", "chosen"),
    [
        (["alpaca.json"], "train", ["alpaca.json"]),
        (["train.csv", "test.csv"], "test", ["test.csv"]),
        (["train/a.parquet", "train/b.parquet", "dev/a.parquet"], "train",
         ["train/a.parquet", "train/b.parquet"]),
        (["en_train.jsonl", "en_test.jsonl"], "train", ["en_train.jsonl"]),
        (["d/train_sft-00000-of-00001.parquet", "d/test_sft-00000-of-00001.parquet"], "test_sft",
         ["d/test_sft-00000-of-00001.parquet"]),
        (["main/train.parquet", "socratic/train.parquet"], "main/train", ["main/train.parquet"]),
        (["a/x1.jsonl", "a/x2.jsonl", "b.jsonl"], "a/*.jsonl", ["a/x1.jsonl", "a/x2.jsonl"]),
        (["train.jsonl.gz", "train.bin", "dataset_infos.json"], "train", ["train.jsonl.gz"]),
    ],
)  # fmt: skip
def test_files_are_chosen_by_their_names(files: list[str], split: str, chosen: list[str]) -> None:
    assert choose_files(HubName("o/n", split), files) == chosen


@pytest.mark.parametrize(
    ("files", "split", "said"),
    [
        (["train.csv", "test.csv"], "dev", "test, train"),
        (["a.bin"], "train", "no data file"),
        (["main/train.parquet", "socratic/train.parquet"], "train", "o/n:main/train.parquet"),
        (["train.csv", "train.parquet"], "train", "several sets"),
        (["test.csv"], "train", "o/n:test"),
    ],
)
def test_what_is_not_clear_is_said_with_the_names(files: list[str], split: str, said: str) -> None:
    fault = choose_files(HubName("o/n", split), files)
    assert isinstance(fault, RowFault)
    assert said in str(fault.to_fault())


def refusal(kind: type[Exception]) -> Exception:
    """An error of the hub's library, without the answer that it wants to be made from."""
    return kind.__new__(kind, "x")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError("no route"), "no route"),
        (errors.HTTPError("refused"), "refused"),
        (refusal(errors.RepositoryNotFoundError), "neither a path nor"),
        (refusal(errors.GatedRepoError), "terms"),
        (refusal(errors.RevisionNotFoundError), "no such revision"),
        (errors.OfflineModeIsEnabled("offline mode"), "offline mode"),
    ],
)
def test_what_the_hub_refuses_is_a_clear_error(hub: FakeHub, error: Exception, said: str) -> None:
    hub.fails_with = error
    with pytest.raises(DataError) as caught:
        find_files("owner/name@v9")
    assert said in str(caught.value)
    assert "owner/name" in str(caught.value)
    (fault,) = read_rows("owner/name@v9")
    assert isinstance(fault, RowFault)
