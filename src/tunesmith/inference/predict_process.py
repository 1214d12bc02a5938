"""The process of a prediction: `python -m tunesmith.inference.predict_process REQUEST`.

Answers in JSON lines: on stdout one {"predict": ...}, or {"error": ...} and exit code 2 or 3; on
stderr {"progress": "..."} and {"predicted": {...}}. SIGINT ends it with 130.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import IO, Any

from tunesmith.core.errors import TunesmithError
from tunesmith.core.log import set_up_logging
from tunesmith.core.stopping import INTERRUPTED
from tunesmith.inference.predict import predict
from tunesmith.inference.predict_request import PredictRequest


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict once."""
    (text,) = sys.argv[1:] if arguments is None else arguments
    set_up_logging()

    def tell(told: dict[str, Any]) -> None:
        _say(sys.stderr, told)

    try:
        predicted = predict(PredictRequest.from_json(text), tell=tell)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the answers, or started us, has gone
        with suppress(BrokenPipeError):
            _say(sys.stdout, {"predict": None})
        return 0
    except TunesmithError as error:
        faults = [asdict(fault) for fault in error.faults]
        known = {"code": error.code, "exit_code": error.exit_code, "total": error.total}
        _say(sys.stdout, {"error": {**known, "faults": faults}})
        return error.exit_code
    _say(sys.stdout, {"predict": asdict(predicted)})
    return 0


def _say(stream: IO[str], value: dict[str, Any]) -> None:
    stream.write(json.dumps(value) + "\n")
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
