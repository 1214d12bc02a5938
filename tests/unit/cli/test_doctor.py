import json

import pytest

from tunesmith.cli import doctor as doctor_module
from tunesmith.cli.main import main
from tunesmith.core import hardware


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "available_memory_bytes", lambda: 100 << 20)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hardware, "available_memory_bytes", lambda: 8 << 30)
    monkeypatch.setattr(hardware, "free_disk_bytes", lambda _: 50 << 30)


def test_every_line_has_a_level_and_each_check_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for name in ("Python", "packages", "cores", "memory", "compute", "GPU", "model", "C++"):
        assert name in printed
    assert "this machine is ready" in printed


@pytest.mark.usefixtures("small")
def test_a_problem_exits_with_2_and_names_the_remedy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["doctor"]) == 2
    printed = capsys.readouterr().out
    assert "problem memory" in printed
    assert "free some" in printed


@pytest.mark.usefixtures("small")
def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    assert {finding["level"] for finding in document["findings"]} <= {"ok", "note", "problem"}
    assert document["machine"]["cpu_count"] >= 1


def test_a_missing_package_is_a_problem(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_module, "NEEDED", ("rich", "no-such-package"))
    assert main(["doctor"]) == 2
    assert "pip install no-such-package" in capsys.readouterr().out


def test_a_full_disk_is_a_problem(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "free_disk_bytes", lambda _: 1 << 20)
    assert main(["doctor"]) == 2
    assert "TUNESMITH_CACHE" in capsys.readouterr().out


def test_the_model_is_fetched_later_or_cached(capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    main(["doctor"])
    assert "the first run fetches" in capsys.readouterr().out
    (model,) = doctor_module.CATALOG.values()
    entry = tmp_path / "cache" / "models" / f"{model.name}-{model.wheel_sha256[:12]}-1"
    entry.mkdir(parents=True)
    (entry / "manifest.json").write_text("{}")
    main(["doctor"])
    assert "is in the cache" in capsys.readouterr().out
