"""Compares the event files that `ftk report --tensorboard board` wrote with metrics.jsonl, as TensorBoard reads them.

    pip install tensorboard
    python tests/interop/tensorboard_events.py FOLDER RUN...    (FOLDER has board/ and the runs)
"""

import json
import pathlib
import struct
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

folder = pathlib.Path(sys.argv[1])
for run in sys.argv[2:]:
    events = EventAccumulator(str(folder / "board" / run), size_guidance={"scalars": 0})
    events.Reload()
    expected = {}
    for line in (folder / run / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        for name, value in record.items():
            if name not in ("step", "epoch") and isinstance(value, (int, float)):
                tag = f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}"
                expected.setdefault(tag, []).append((record["step"], struct.unpack("f", struct.pack("f", value))[0]))
    assert sorted(events.Tags()["scalars"]) == sorted(expected), (events.Tags()["scalars"], sorted(expected))
    for tag, points in expected.items():
        assert [(event.step, event.value) for event in events.Scalars(tag)] == points, tag
    print(run, len(expected), "figures are the same")
