from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tunesmith.models.saving import save_model


class Talkative:
    def save_pretrained(self, folder: Path) -> None:
        sys.stdout.write("no accelerator\n")
        (folder / "config.json").write_text("{}")


def test_what_libraries_print_while_a_model_is_saved_is_no_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(Talkative(), tmp_path)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "no accelerator\n"
    assert (tmp_path / "config.json").read_text() == "{}"
