from datetime import UTC, datetime, timedelta

import pytest

from tunesmith.cli.progress import Pace, event_text, live_text, plain_text

START = datetime(2026, 1, 1, 10, 0, 0, tzinfo=UTC)


def step(number: int, *, seconds_in: float = 0.0, **fields: object) -> dict[str, object]:
    time = (START + timedelta(seconds=seconds_in)).isoformat().replace("+00:00", "Z")
    return {"type": "step", "time": time, "step": number, "total_steps": 20, **fields}


def test_a_plain_line_has_time_step_loss_rate_memory_and_time_left() -> None:
    event = step(5, loss=1.23456, tokens_per_second=821.4, memory_bytes=1 << 30)
    text = plain_text(event, 100.0)
    assert text == "10:00:00 step 5/20  loss 1.2346  821 tokens/s  memory 1.0 GiB  1m40s left"


def test_of_a_run_on_a_gpu_its_memory_is_told() -> None:
    event = step(5, loss=1.0, memory_bytes=2 << 30, device_memory_bytes=1 << 30)
    assert plain_text(event, None) == "10:00:00 step 5/20  loss 1.0000  GPU memory 1.0 GiB"


def test_a_live_line_has_a_bar() -> None:
    assert live_text(step(5), None).startswith("[=====---------------] step 5/20")
    assert live_text(step(20), None).startswith("[====================]")


def test_what_a_step_does_not_say_is_left_out() -> None:
    assert plain_text(step(5, loss=None), None) == "10:00:00 step 5/20"


def test_the_time_left_follows_from_the_pace() -> None:
    pace = Pace()
    for number in (11, 12, 13):
        event = step(number, seconds_in=2.0 * number)
        pace.add(event)
    assert pace.seconds_left(event) == pytest.approx(14.0)


def test_the_first_step_has_only_its_own_duration() -> None:
    pace = Pace()
    event = step(1, seconds=3.0)
    pace.add(event)
    assert pace.seconds_left(event) == pytest.approx(57.0)
    silent = Pace()
    silent.add(step(1))
    assert silent.seconds_left(step(1)) is None


def test_a_run_that_went_back_to_a_checkpoint_has_a_time_left() -> None:
    pace = Pace()
    for place, number in enumerate((8, 9, 5)):
        event = step(number, seconds_in=place, seconds=1.0)
        pace.add(event)
    assert pace.seconds_left(event) == pytest.approx(15.0)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        ({"type": "note", "message": "hello"}, "hello"),
        ({"type": "warning", "message": "mind"}, "warning: mind"),
        ({"type": "checkpoint", "step": 4}, "checkpoint saved at step 4"),
        ({"type": "run", "status": "running"}, None),
        ({"type": "run", "status": "resumed", "message": "from step 3"}, "resumed from step 3"),
        ({"type": "step", "step": 1}, None),
        ({"type": "error", "faults": []}, None),
        (
            {"type": "model", "name": "tiny", "size_bytes": 2048},
            "model: name tiny, size 2.0 KiB",
        ),
        ({"type": "data", "counts": {"rows": 3}}, None),
    ],
)
def test_events_become_lines(event: dict[str, object], text: str | None) -> None:
    assert event_text({"time": "", "step": None, **event}) == text


def test_an_evaluation_tells_its_numbers() -> None:
    event = {
        "type": "evaluation",
        "step": 0,
        "when": "before",
        "loss": 2.0,
        "perplexity": 7.389,
        "metrics": {"exact-match": {"value": 0.25, "rows": 8}},
    }
    text = "evaluation (before): held-out loss 2.0000, perplexity 7.39, exact-match 0.250"
    assert event_text(event) == text
