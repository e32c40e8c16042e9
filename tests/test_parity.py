"""The programs of benchmarks/parity end with the numbers of a hand-written loop, to the bit."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.filterwarnings("ignore")  # of the programs', which are the same for all engines

from benchmarks.parity import engines, plain  # noqa: E402
from benchmarks.parity.__main__ import difference, numbers, records  # noqa: E402
from benchmarks.parity.programs import programs  # noqa: E402

NAMES = list(programs(plain.NAMES))


def test_there_are_more_than_twenty_programs() -> None:
    assert len(NAMES) >= 20


@pytest.mark.parametrize("form", ["a", "b"])
@pytest.mark.parametrize("name", NAMES)
def test_a_program_ends_with_the_bits_of_a_hand_written_loop(name: str, form: str) -> None:
    found, wanted = engines.run("lightkit", name, form), engines.run("plain", name, form)
    assert numbers(found, wanted) == "bits" and len(found["losses"]) >= 20
    assert found["records"] and "C.on_train_batch_end" in found["calls"]


def test_the_comparison_sees_a_difference_in_any_part() -> None:
    found = engines.run("lightkit", "linear", "a")
    other = {**found, "losses": [*found["losses"][:-1], 0.0]}
    assert numbers(found, found) == "bits" and numbers(found, other) != "bits"
    assert records(found["records"], found["records"]) == ("bits", "")
    values, step = found["records"][0]
    assert records(found["records"], [({**values, "epoch": 9.0}, step), *found["records"][1:]])[0] == "9.0e+00"
    assert records(found["records"], found["records"][1:])[0] == "differ"
    assert difference(found["calls"], found["calls"][:-1]) and not difference(found["calls"], found["calls"])
