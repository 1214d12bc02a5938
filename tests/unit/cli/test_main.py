import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tunesmith import __version__
from tunesmith.cli import main as main_module
from tunesmith.cli.main import VERBS, main

# The help's own budget is 0.25 s on an idle machine; tests run beside other work.
LOOSE_BOUND_S = 2.0


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tunesmith", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def json_error(text: str) -> dict[str, object]:
    return json.loads(text)["error"]


def test_help_names_every_verb_and_is_quick() -> None:
    started = time.monotonic()
    help_page = run("--help")
    assert time.monotonic() - started < LOOSE_BOUND_S
    assert help_page.returncode == 0
    for name, _, summary in VERBS:
        assert re.search(rf"{name}\s+{re.escape(summary[:30])}", help_page.stdout)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from tunesmith.cli.main import main; main(['--help']);"
        "heavy = {'torch', 'transformers', 'pydantic', 'numpy', 'psutil', 'markdown_it', 'yaml'};"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    command = [sys.executable, "-c", code]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("name", [name for name, _, _ in VERBS])
def test_every_verb_has_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"Usage: tunesmith {name}" in capsys.readouterr().out


def test_no_verb_imports_torch() -> None:
    modules = sorted({f"tunesmith.cli.{target.partition(':')[0]}" for _, target, _ in VERBS})
    code = (
        f"import importlib, sys; [importlib.import_module(name) for name in {modules}];"
        "sys.exit('torch is imported' if 'torch' in sys.modules else 0)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert finished.returncode == 0, finished.stderr


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["traim"], "traim"),
        (["train", "--nope"], "--nope"),
        (["quickstart", "--steps", "many"], "many"),
        (["quickstart", "--steps", "0"], "1"),
        (["runs", "shov"], "shov"),
        (["recipe"], "FILE"),
    ],
)
def test_a_wrong_command_line_has_three_parts_and_exit_code_2(
    arguments: list[str], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert found in error
    assert "where: the command line" in error
    assert "--help" in error


def test_a_wrong_command_line_with_json_is_a_json_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["runs", "list", "--nope", "--json"]) == 2
    error = json_error(capsys.readouterr().out)
    assert error["code"] == "invalid_command"
    assert error["exit_code"] == 2


def test_a_word_that_nothing_takes_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    columns = ["--columns", "prompt=question", "completion=answer"]
    assert main(["data", "check", "rows.jsonl", *columns]) == 2
    printed = capsys.readouterr().err
    assert "nothing takes 'completion=answer'" in printed
    assert "an option is repeated for each of its values" in printed


def test_a_near_verb_is_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    main(["traim"])
    assert '"train"' in capsys.readouterr().err


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(_: list[str]) -> int:
        raise ZeroDivisionError("nobody foresaw this")

    monkeypatch.setattr(main_module, "_run", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.mark.usefixtures("broken")
def test_a_bug_shows_no_traceback_but_keeps_it_in_a_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 3
    error = capsys.readouterr().err
    assert "a bug of Tunesmith" in error
    assert "Traceback" not in error
    (log,) = re.findall(r"the details are in (\S+)", error)
    assert "ZeroDivisionError: nobody foresaw this" in Path(log).read_text()


@pytest.mark.usefixtures("broken")
def test_a_bug_with_json_is_a_json_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json"]) == 3
    assert json_error(capsys.readouterr().out)["code"] == "bug"


@pytest.mark.usefixtures("broken")
def test_a_bug_with_debug_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        main(["--debug"])


def test_debug_shows_the_traceback_of_a_users_fault_wherever_it_stands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for arguments in (["--debug", "recipe", "none.yaml"], ["recipe", "none.yaml", "--debug"]):
        assert main(arguments) == 2
        assert "Traceback" in capsys.readouterr().err
    assert main(["recipe", "none.yaml"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(main_module, "_run", interrupt)
    assert main([]) == 130


def test_a_reader_that_leaves_is_no_error() -> None:
    command = f"{sys.executable} -m tunesmith recipe {QUICKSTART} | head -n 1"
    finished = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False
    )
    assert finished.stderr == ""
    assert finished.returncode == 0


def test_a_terminal_without_unicode_gets_replacements(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: tin\xe9\ntask: chat\ndata: {train: a}\n", encoding="utf-8")
    command = [sys.executable, "-m", "tunesmith", "recipe", str(recipe)]
    env = {"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
    finished = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "tin?" in finished.stdout


QUICKSTART = Path(main_module.__file__).with_name("quickstart.yaml")
