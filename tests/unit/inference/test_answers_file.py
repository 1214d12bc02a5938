from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.core.errors import MachineError, TunesmithError, UserError
from tunesmith.inference.answers_file import header_of, open_answers, require_writable

SETTINGS: dict[str, Any] = {"model_sha256": "a1", "temperature": 0.0, "columns": {"prompt": "q"}}


def answers(*numbers: int) -> list[dict[str, str]]:
    return [{"row_id": f"rows.jsonl:{number}", "answer": "\u00e9" * number} for number in numbers]


def write(path: Path, *numbers: int) -> None:
    with open_answers(path, SETTINGS, "resume") as file:
        file.write(answers(*numbers))


def fault_of(path: Path, **changes: Any) -> str:
    with pytest.raises(UserError) as caught, open_answers(path, SETTINGS | changes, "resume"):
        pass
    return caught.value.faults[0].found


def test_answers_are_lines_and_the_settings_stand_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write(path, 1, 2)
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == answers(1, 2)
    assert "\u00e9\u00e9" in path.read_text("utf-8"), "as people read it"
    assert json.loads(header_of(path).read_text()) == SETTINGS


def test_going_on_adds_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write(path, 1, 2)
    with open_answers(path, SETTINGS, "resume") as file:
        assert file.num_lines == 2
        file.write(answers(3))
        assert list(file.row_ids()) == ["rows.jsonl:1", "rows.jsonl:2"]
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize("lost", [1, 5, 30])
def test_half_a_line_is_taken_off(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "answers.jsonl"
    write(path, 1, 2, 3)
    whole = path.read_bytes()
    path.write_bytes(whole[:-lost])
    with open_answers(path, SETTINGS, "resume") as file:
        assert file.num_lines == 2
        file.write(answers(3))
    assert path.read_bytes() == whole


def test_half_a_line_alone_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write(path, 1)
    path.write_bytes(path.read_bytes()[:9])
    with open_answers(path, SETTINGS, "resume") as file:
        assert (file.num_lines, list(file.row_ids())) == (0, [])
    assert path.read_bytes() == b""


def test_other_settings_are_refused_with_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write(path, 1)
    found = fault_of(path, temperature=1.0, model_sha256="b2", seed=3)
    assert "temperature was 0.0 and is 1.0" in found
    assert "the content of the model is another" in found
    assert "seed was null and is 3" in found
    assert "columns" not in found


def test_answers_without_a_header_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write(path, 1)
    header_of(path).unlink()
    assert "without their header" in fault_of(path)


def test_an_empty_file_is_no_answers(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.touch()
    require_writable(path, "refuse", [])
    with open_answers(path, SETTINGS, "refuse") as file:
        assert file.num_lines == 0


def test_beginning_anew_forgets_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write(path, 1, 2)
    with open_answers(path, {"temperature": 1.0}, "overwrite") as file:
        assert file.num_lines == 0
        file.write(answers(7))
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == answers(7)
    assert json.loads(header_of(path).read_text()) == {"temperature": 1.0}


def test_two_processes_do_not_write_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write(path, 1)
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with (
            pytest.raises(MachineError, match="another process"),
            open_answers(path, SETTINGS, "overwrite"),
        ):
            pass
    assert path.read_bytes(), "nothing is taken off what another writes"


def test_a_line_that_is_no_answer_is_named(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write(path, 1)
    with path.open("a") as file:
        file.write('{"answer": 3}\n')
    with open_answers(path, SETTINGS, "resume") as file, pytest.raises(UserError) as caught:
        list(file.row_ids())
    assert caught.value.faults[0].where == f"{path}:2"


def test_a_file_that_is_there_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write(path, 1)
    with pytest.raises(UserError, match="--resume"):
        require_writable(path, "refuse", [])
    require_writable(path, "resume", [])
    require_writable(path, "overwrite", [])


def test_the_input_is_never_the_output(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}\n")
    (tmp_path / "link.jsonl").symlink_to(rows)
    with pytest.raises(UserError, match="the input"):
        require_writable(tmp_path / "link.jsonl", "overwrite", [rows])


def test_a_place_that_is_none_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "answers.jsonl"):
        with pytest.raises(UserError, match="folder"):
            require_writable(path, "refuse", [])


def test_a_full_disk_is_an_error_that_says_so() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    from tunesmith.inference.answers_file import AnswersFile

    with full.open("wb", buffering=0) as file, pytest.raises(TunesmithError, match="no space"):
        AnswersFile(full, file).write(answers(1))
