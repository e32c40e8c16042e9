"""What small trainings left before the redesign, they leave today: hooks, losses, metrics, weights, checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.golden import jobs, recordings, since, tape

WITH_CHECKPOINT = [name for name, job in jobs.JOBS.items() if job.old_checkpoint]
RESUMED = [name for name, job in jobs.JOBS.items() if job.stop_at is not None or job.resume_from is not None]


def compare(name: str, wanted: Any, found: Any) -> None:
    """Fail with the first difference."""
    wanted, found = since.comparable(since.as_made_today(wanted)), since.comparable(found)
    difference = recordings.first_difference(wanted, found, exact=recordings.is_recording_machine())
    assert difference is None, f"{name} differs from its recording: {difference}"


def test_every_job_has_its_recording_and_every_recording_its_job() -> None:
    assert len(jobs.JOBS) == 20 and len(RESUMED) == 17
    assert sorted(p.stem for p in recordings.RECORDED.iterdir()) == sorted(jobs.JOBS)
    assert len(WITH_CHECKPOINT) == 9
    assert sorted(p.name for p in recordings.CHECKPOINTS.iterdir()) == sorted(f"{n}.ckpt" for n in WITH_CHECKPOINT)


@pytest.mark.parametrize("name", jobs.JOBS)
def test_a_job_leaves_what_it_left(name: str, tmp_path: Path) -> None:
    wanted = recordings.read(name)
    wanted.pop("checkpoint", None)
    compare(name, wanted, jobs.run_job(name, tmp_path))


# gan has written six rows where it was stopped; now that metrics of manual optimization are written by batches, three
IN_AN_OLD_FILE = {"gan": ("L.load_state_dict(3)", "L.load_state_dict(6)")}


@pytest.mark.parametrize("name", WITH_CHECKPOINT)
def test_an_old_checkpoint_goes_on_as_it_did(name: str, tmp_path: Path) -> None:
    wanted = recordings.read(name)
    new, old = IN_AN_OLD_FILE.get(name, ("", ""))
    wanted["resumed"]["order"] = [line.replace(new, old) for line in wanted["resumed"]["order"]]
    trees = dict(wanted["trees"])
    found = jobs.resume(name, recordings.CHECKPOINTS / f"{name}.ckpt", tmp_path / "resumed", trees)
    compare(name, {"trees": wanted["trees"], "resumed": wanted["resumed"]}, {"trees": trees, "resumed": found})


@pytest.mark.parametrize("name", WITH_CHECKPOINT)
def test_an_old_checkpoint_gives_its_weights(name: str) -> None:
    path = recordings.CHECKPOINTS / f"{name}.ckpt"
    wanted = recordings.read(name)["checkpoint"]
    assert recordings.about_checkpoint(path) == wanted
    module = type(jobs.JOBS[name].module()).load_from_checkpoint(path)
    assert tape.digest(module.state_dict()) == wanted["weights"]
    own = torch.load(path, weights_only=True).get("hyper_parameters", {})
    assert dict(module.hparams) == own and all(getattr(module.hparams, key) == value for key, value in own.items())


@pytest.mark.parametrize("name", RESUMED)
def test_in_a_recording_the_resumed_run_ends_where_the_whole_one_does(name: str) -> None:
    found = recordings.read(name)
    for part in ("weights", "optimizers"):
        assert found["resumed"]["end"]["digests"][part] == found["whole"]["end"]["digests"][part]
    assert found["resumed"]["steps"] == found["whole"]["steps"][-len(found["resumed"]["steps"]) :]
    assert 0 < len(found["resumed"]["steps"]) < len(found["whole"]["steps"])


def test_recordings_hold_what_they_are_for() -> None:
    """A recording that lacks a part compares nothing."""
    parts = {"order", "steps", "metrics", "logged", "end", "files", "csv", "generators"}
    for name in jobs.JOBS:
        found = recordings.read(name)
        assert parts <= set(found["whole"]), name
        assert len(found["whole"]["steps"]) >= 10, name
        saved = [part for part in ("whole", "stopped", "resumed") if found.get(part, {}).get("checkpoints")]
        assert saved and found["trees"], name


def test_keyed_random_numbers_do_not_depend_on_the_number_of_workers() -> None:
    without, with_two = (recordings.read(f"keyed_workers_{n}")["whole"] for n in (0, 2))
    assert without["steps"] == with_two["steps"] and without["end"]["digests"] == with_two["end"]["digests"]
    assert recordings.read("own_rng_workers_0")["whole"]["steps"] != without["steps"]


# ---------------------------------------------------------------------- the comparison itself


def test_a_recording_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "RECORDED", tmp_path)
    whole = {"order": ["a", "b", "c", "d"], "steps": [[1, 0.5], [2, 0.5]], "logged": [[1, {"x": 0.1}]]}
    for resumed in (
        {"order": ["z", "c", "d"], "steps": [[1, 0.5], [2, 0.5]], "logged": []},
        {"order": ["d"], "steps": [[2, 0.25]], "logged": [[1, {"x": 0.1}]]},
    ):
        resumed = {name: part for name, part in resumed.items() if part}
        path = recordings.write("job", {"trees": {}, "whole": whole, "resumed": resumed})
        assert recordings.read("job") == {"trees": {}, "whole": whole, "resumed": resumed}
        assert ("as the whole run's last 2" in path.read_text(encoding="utf-8")) is (len(resumed["order"]) == 3)


ORDER = {"whole": {"order": ["fit/train e0 s1: C.a(0) M.a(0) M.step(0)", "fit/train e0 s2: C.b"]}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"whole": {"order": ["fit/train e0 s1: M.a(0) C.a(0) M.step(0)", "fit/train e0 s2: C.b"]}},
            "whole/order[0]: was 'C.a(0)', is 'M.a(0)' after 's1:'",
        ),
        (
            {"whole": {"order": ["fit/train e0 s1: C.a(0) M.a(0)", "fit/train e0 s2: C.b"]}},
            "whole/order[0]: was 'M.step(0)', is '(the end)' after 'M.a(0)' in 'fit/train e0 s1:'",
        ),
        (
            {"whole": {"order": ORDER["whole"]["order"][:1]}},
            'whole/order: was 2 long, is 1; the first that one lacks: "fit/train e0 s2: C.b"',
        ),
        ({"whole": {"order": ORDER["whole"]["order"], "more": 1}}, "whole/more: is new: 1"),
        ({}, 'whole: is gone; was {"order": ["fit/train e0 s1: C.a(0) M.a(0) M.step(0)", "fit/train e0 s2: C.b"]}'),
    ],
)
@pytest.mark.parametrize("exact", [True, False])
def test_the_first_difference_is_told(change: Any, message: str, exact: bool) -> None:
    assert recordings.first_difference(ORDER, ORDER, exact=exact) is None
    assert recordings.first_difference(ORDER, change, exact=exact) == message


@pytest.mark.parametrize(
    ("wanted", "found", "exactly", "nearly"),
    [
        (0.5, 0.5 + 1e-8, False, True),
        (0.5, 0.501, False, False),
        (1, 1.0, False, False),
        (1, 2, False, False),
        (float("inf"), float("inf"), True, True),
        (float("nan"), float("nan"), True, True),
        ("3,0.25,0", "3,0.2500001,0", False, True),
        ("3,0.25,0", "4,0.25,0", False, False),
        ({"digests": {"weights": "a"}}, {"digests": {"weights": "b"}}, False, True),
        ({"values": {"weights": "a"}}, {"values": {"weights": "b"}}, False, False),
    ],
)
def test_on_another_machine_only_the_last_digits_may_differ(
    wanted: Any, found: Any, exactly: bool, nearly: bool
) -> None:
    assert (recordings.first_difference(wanted, found, exact=True) is None) is exactly
    assert (recordings.first_difference(wanted, found, exact=False) is None) is nearly
