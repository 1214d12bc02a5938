import json
import sys
from pathlib import Path

import pytest

from tests.fakes.tiny import make_tokenizer
from tests.fakes.tiny_run import make_model_folder
from tunesmith.cli import looked_at
from tunesmith.cli.data import bracketed
from tunesmith.cli.main import main
from tunesmith.cli.model_folder import model_folder
from tunesmith.core.errors import ModelError
from tunesmith.data.show import Piece


def row(question: str, answer: str) -> str:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": turns}) + "\n"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text(row("a?", "yes") + row("b?", "no") + row("a?", "yes"))
    return path


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_tokenizer(tmp_path / "tiny")
    monkeypatch.setattr(looked_at, "model_folder", lambda _: folder)


def test_a_good_file_is_counted(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(rows)]) == 0
    printed = capsys.readouterr().out
    assert "no faults" in printed
    assert "messages" in printed
    assert "1 (left out of a run)" in printed


def test_a_good_file_as_json(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(rows), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["rows"], document["duplicates"]) == (3, 1)


def test_every_fault_has_its_line(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with rows.open("a") as file:
        file.write('{"messages": []}\n[1, 2]\n')
    assert main(["data", "check", str(rows)]) == 2
    errors = capsys.readouterr().err
    assert f"{rows}:4" in errors
    assert f"{rows}:5" in errors
    assert main(["data", "check", str(rows), "--json"]) == 2
    assert len(json.loads(capsys.readouterr().out)["error"]["faults"]) == 2


def test_a_missing_file_is_a_users_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "none.jsonl"]) == 2
    assert "none.jsonl" in capsys.readouterr().err


def test_a_built_in_sample_has_no_faults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "sample:support-desk-held-out"]) == 0
    assert "no faults" in capsys.readouterr().out


def test_own_column_names_are_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "1+1?", "answer": "2"}\n')
    columns = ["--columns", "prompt=question", "--columns", "completion=answer"]
    assert main(["data", "check", str(path), *columns]) == 0
    assert "prompt-completion" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "found", "where", "fix"),
    [
        (["check", ""], "FILE is empty", "FILE ''", "name a file, a folder, a pattern or a sample"),
        (["check", "a.jsonl", "--rows-at", ""], "--rows-at is empty", "--rows-at ", "not empty"),
        (["stats", "a.jsonl", "--validation", "110%"], "110%", "--validation 110%", "such as 10%"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_an_option_that_cannot_be_is_told_in_our_words(
    arguments: list[str],
    found: str,
    where: str,
    fix: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["data", *arguments, "--json"]) == 2
    (fault,) = json.loads(capsys.readouterr().out)["error"]["faults"]
    assert found in fault["found"]
    assert "should" not in fault["found"].lower()
    assert where in fault["where"]
    assert fix in fault["fix"]


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ("prompte=q", "did you mean prompt?"),
        ("zzz=q", "the columns are"),
        ("prompt", "write --columns"),
    ],
)
def test_a_wrong_column_is_named(
    rows: Path, capsys: pytest.CaptureFixture[str], pair: str, words: str
) -> None:
    assert main(["data", "check", str(rows), "--columns", pair]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.usefixtures("tiny")
def test_what_is_trained_stands_in_brackets(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", str(rows), "--rows", "1"]) == 0
    printed = capsys.readouterr().out
    assert "<|im_start|>assistant\n[[yes<|im_end|>]]" in printed
    assert printed.count("tokens, ") == 1


@pytest.mark.usefixtures("tiny")
def test_shown_rows_as_json_have_pieces(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", str(rows), "--json", "--rows", "2"]) == 0
    shown = json.loads(capsys.readouterr().out)["rows"]
    assert len(shown) == 2
    trained = "".join(piece["text"] for piece in shown[0]["pieces"] if piece["weight"])
    assert trained == "yes<|im_end|>"


@pytest.mark.usefixtures("tiny")
def test_rows_that_are_left_out_are_not_among_those_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    unprintable = {**json.loads(row("t?", "no")), "tools": [tool]}
    path = tmp_path / "rows.jsonl"
    lines = ['{"messages": []}\n', json.dumps(unprintable), "\n", row("a?", "yes"), row("b?", "no")]
    path.write_text("".join(lines))
    show = ["data", "show", str(path), "--rows", "1"]
    assert main(show) == 2
    assert main([*show, "--on-bad-row", "drop"]) == 0
    printed = capsys.readouterr().out
    assert "rows.jsonl:3: " in printed
    assert "rows.jsonl:4: " not in printed
    path.write_text(json.dumps(unprintable) + "\n")
    assert main([*show, "--on-bad-row", "drop"]) == 2
    assert "tools" in capsys.readouterr().err


@pytest.mark.usefixtures("tiny")
def test_both_answers_of_a_preference_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}) + "\n")
    assert main(["data", "show", str(path), "--max-length", "9"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("rows.jsonl")]
    assert [line.split(":")[1] for line in lines] == ["1, chosen", "1, rejected"]
    assert lines[0].endswith(" trained, longer than 9")
    assert main(["data", "show", str(path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["rows"]
    assert [row["part"] for row in shown] == ["chosen", "rejected"]


@pytest.mark.usefixtures("tiny")
def test_statistics_are_an_x_ray_of_a_run(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert main(["data", "stats", str(rows), "--max-length", "23", "--html", str(page)]) == 2
    printed = capsys.readouterr().out
    for words in ("error:", "to do:", "longer than 23", "Lengths in tokens, train", "equal rows"):
        assert words in printed
    assert "<html" in page.read_text()
    assert "The first rows, token by token" in page.read_text()
    assert main(["data", "stats", str(rows), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    sides = document["sides"]
    assert sides["train"]["rows"] + sides["validation"]["rows"] == 2
    assert sides["train"]["duplicates"] == 1
    assert sides["train"]["trained_tokens"] == sides["train"]["supervised_tokens"]
    assert document["file"] == str(rows)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--validation", "0%"], "0% leaves no rows on one side"),
        (["--validation", "some%"], "write a share such as 10%"),
        (["--html", "{folder}"], "a folder, where a page should be"),
        (["--html", "{folder}/none/page.html"], "there is no such folder"),
    ],
)
def test_an_option_that_cannot_be_is_a_users_fault(
    rows: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    given = [option.format(folder=rows.parent) for option in options]
    assert main(["data", "stats", str(rows), *given]) == 2
    assert words in capsys.readouterr().err


def test_a_file_without_a_name_is_a_users_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", ""]) == 2
    assert "name a file, a folder, a pattern or a sample" in capsys.readouterr().err


@pytest.mark.usefixtures("tiny")
def test_rows_in_both_files_are_told(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = tmp_path / "held-out.jsonl"
    held_out.write_text(row("b?", "no") + row("c?", "maybe"))
    assert main(["data", "stats", str(rows), "--validation", str(held_out)]) == 0
    assert "1 of 2 validation rows" in capsys.readouterr().out


def test_bad_rows_can_be_left_out(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with rows.open("a") as file:
        file.write('{"messages": []}\n')
    assert main(["data", "check", str(rows), "--on-bad-row", "drop"]) == 0
    printed = capsys.readouterr().out
    assert "1 row left out" in printed
    assert "4, 3 of them usable" in printed
    assert "left out: empty messages (1 row)" in printed
    assert "rows.jsonl:4: empty messages" in printed


def test_rows_that_are_left_out_and_not_listed_are_counted(
    rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with rows.open("a") as file:
        file.write('{"messages": []}\n' * 23)
    check = ["data", "check", str(rows), "--on-bad-row", "drop"]
    assert main(check) == 0
    assert capsys.readouterr().out.endswith("    ... and 3 rows more\n")
    assert main([*check, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["tasks"][:2] == ["chat", "translation"]
    assert (document["rows_usable"], document["rows_refused"]) == (3, 23)
    assert document["dropped"][0] == {"row_id": "rows.jsonl:4", "reason": "empty messages"}
    assert len(document["dropped"]) == 23


@pytest.mark.usefixtures("tiny")
def test_another_end_token_is_the_one_that_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n")
    show = ["data", "show", str(path), "--task", "completion"]
    printed: list[str] = []
    for options in ([], ["--eos", "<|endoftext|>"], ["--no-end-token"]):
        assert main([*show, *options]) == 0
        printed.append(capsys.readouterr().out.splitlines()[1])
    assert printed == ["a[[b<|im_end|>]]", "a[[b<|endoftext|>]]", "a[[b]]"]
    assert main(["data", "stats", str(path), "--eos", "<|none|>"]) == 2
    assert "model.special_tokens.eos" in capsys.readouterr().err


def test_brackets_open_and_close_once_a_stretch() -> None:
    weights = (("a", 0.0), ("b", 1.0), ("c", 1.0), ("d", 0.0), ("e", 1.0))
    pieces = [Piece(text, weight, (0,)) for text, weight in weights]
    assert bracketed(pieces) == "a[[bc]]d[[e]]"
    assert bracketed([]) == ""


def answers(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_models_folder_comes_from_the_process_that_prepares_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = """
import sys
print('{"progress": "fetching"}', file=sys.stderr)
print('a warning of a library', file=sys.stderr)
print('{"folder": "/models/tiny"}')
"""
    assert model_folder("tiny", command=answers(code)) == Path("/models/tiny")
    assert capsys.readouterr().err == "fetching\n"


def test_its_error_is_ours() -> None:
    code = """
import json
fault = {"found": "no model", "where": "tiny", "fix": "name another"}
print(json.dumps({"error": {"code": "model_not_found", "faults": [fault]}}))
raise SystemExit(2)
"""
    with pytest.raises(ModelError, match="no model") as error:
        model_folder("tiny", command=answers(code))
    assert error.value.code == "model_not_found"


def test_a_process_without_an_answer_is_told_with_its_last_line() -> None:
    code = "raise ValueError('no answer')"
    with pytest.raises(ModelError, match="ValueError: no answer"):
        model_folder("tiny", command=answers(code))


def test_a_recipe_is_looked_at_as_its_run_would(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model_folder(tmp_path / "tiny")
    monkeypatch.setattr(looked_at, "model_folder", lambda _: model)
    (tmp_path / "held.jsonl").write_text(row("c?", "yes") + row("a?", "yes"))
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"model: {model}\ntask: chat\n"
        f"data: {{train: {rows.name}, validation: held.jsonl, max_length: 300}}\n"
    )
    assert main(["data", "check", str(recipe), "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert [file["rows"] for file in files] == [3, 2]
    assert main(["data", "check", str(recipe)]) == 0
    assert capsys.readouterr().out.count("no faults") == 2
    main(["data", "stats", str(recipe), "--json"])
    xray = json.loads(capsys.readouterr().out)
    assert xray["sides"]["validation"]["rows"] == 2
    assert main(["data", "show", str(recipe), "--rows", "1"]) == 0
    assert "[[yes<|im_end|>]]" in capsys.readouterr().out


def test_options_beside_a_recipe_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb, *options in (
        ["check", "--limit", "3"],
        ["show", "--model", "x"],
        ["stats", "--test", "t"],
    ):
        assert main(["data", verb, str(tmp_path / "r.yaml"), *options]) == 2
        assert "beside a recipe" in capsys.readouterr().err
