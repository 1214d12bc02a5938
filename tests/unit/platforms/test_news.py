"""What a rank has written, told piece by piece."""

from __future__ import annotations

from pathlib import Path

from tunesmith.core.run_dir import RunDir
from tunesmith.platforms.news import Told, changes_of, pass_over, put_down


def test_a_folder_elsewhere_becomes_the_same_piece_by_piece(tmp_path: Path) -> None:
    here, there, told = RunDir(tmp_path / "here"), tmp_path / "there", Told()
    for folder in (here.path, here.ranks / "rank-1", there):
        folder.mkdir(parents=True)
    here.events_jsonl.write_text('{"step":1}\n')
    (there / "events.jsonl").write_text('{"step":1}\n')
    pass_over(here, 0, told)

    with here.events_jsonl.open("a") as file:
        file.write('{"step":2}\n{"st')
    here.state_json.write_text("1")
    (here.ranks / "beat-0").write_text("step 2")
    (here.ranks / "rank-1" / "log.txt").write_text("another's")
    (here.path / "lock").touch()
    for change in changes_of(here, 0, told):
        put_down(change, there)
    assert (there / "events.jsonl").read_text() == '{"step":1}\n{"step":2}\n'
    assert sorted(str(one.relative_to(there)) for one in there.rglob("*") if one.is_file()) == [
        "events.jsonl",
        "ranks/beat-0",
        "state.json",
    ]
    assert changes_of(here, 0, told) == []
    with here.events_jsonl.open("a") as file:
        file.write('ep":3}\n')
    for change in (*changes_of(here, 0, told), *changes_of(here, 1, Told())):
        put_down(change, there)
    assert (there / "events.jsonl").read_text() == here.events_jsonl.read_text()
    assert (there / "ranks" / "rank-1" / "log.txt").read_text() == "another's"
