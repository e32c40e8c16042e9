"""Every generator can be seeded, saved as plain data, and set back exactly."""

import io
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from lightkit import global_seed, seeding
from lightkit.data.generator_states import same_moment
from lightkit.errors import ConfigError


def draw() -> list[float]:
    """Numbers from every global generator, the ones with a cached second normal included."""
    return [
        *torch.rand(3).tolist(),
        torch.randn(1).item(),
        *np.random.rand(3).tolist(),
        np.random.randn(),
        random.random(),
        random.gauss(0, 1),
    ]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    monkeypatch.delenv(global_seed.GLOBAL_SEED, raising=False)
    monkeypatch.delenv(seeding.SEED_WORKERS, raising=False)
    with seeding.isolate_rng():
        yield
    # what seed_everything wrote itself: monkeypatch.delenv puts back only what was there before
    os.environ.pop(global_seed.GLOBAL_SEED, None)
    os.environ.pop(seeding.SEED_WORKERS, None)


def test_the_same_seed_draws_the_same_numbers_everywhere():
    assert global_seed.seed_everything(17) == 17
    first = draw()
    global_seed.seed_everything(17)
    assert draw() == first
    global_seed.seed_everything(18)
    assert not set(draw()) & set(first)


def test_the_numbers_are_those_of_the_libraries_own_seeding():
    global_seed.seed_everything(5)
    ours = draw()
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    assert draw() == ours


def test_seed_and_workers_are_left_for_child_processes():
    global_seed.seed_everything(3, workers=True)
    code = "from lightkit import global_seed as g, seeding as s; print(g.seed_everything(), s.workers_are_keyed())"
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    # its own call without workers=True switches keying off again, as in Lightning
    assert child.stdout == "3 False\n"


def test_workers_are_keyed_only_on_request():
    assert not seeding.workers_are_keyed()
    global_seed.seed_everything(3, workers=True)
    assert seeding.workers_are_keyed()
    global_seed.seed_everything(3)
    assert not seeding.workers_are_keyed()


def test_without_any_seed_zero_is_used_and_said():
    with pytest.warns(
        UserWarning, match=r"^seed_everything\(\): no seed given and none in the environment; using 0$"
    ):
        assert global_seed.seed_everything() == 0


@pytest.mark.parametrize("seed", [-1, 2**32, "many", 10**30, [1]])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(ConfigError) as caught:
        global_seed.seed_everything(seed)
    assert str(caught.value) == f"seed_everything(seed={seed!r}): expected an integer from 0 to 4294967295"
    assert global_seed.GLOBAL_SEED not in os.environ


def test_a_bad_seed_in_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv(global_seed.GLOBAL_SEED, "abc")
    with pytest.raises(ConfigError) as caught:
        global_seed.seed_everything()
    assert str(caught.value) == (
        "the environment variable LIGHTKIT_GLOBAL_SEED='abc': expected an integer from 0 to 4294967295"
    )


def test_the_largest_seed_works():
    assert global_seed.seed_everything(2**32 - 1) == 4294967295


def test_the_seed_is_logged_unless_asked_not_to(caplog):
    with caplog.at_level("INFO", logger="lightkit"):
        global_seed.seed_everything(9)
        global_seed.seed_everything(10, verbose=False)
    assert [record.getMessage() for record in caplog.records] == ["Seed set to 9"]


def test_restored_generators_draw_the_same_numbers_also_in_the_middle_of_a_normal_pair():
    global_seed.seed_everything(1)
    draw()  # leaves one cached normal in numpy and in random
    state = seeding.capture_rng()
    expected = [draw() for _ in range(300)]  # beyond one refill of 624 words
    global_seed.seed_everything(2)
    seeding.restore_rng(state)
    assert [draw() for _ in range(300)] == expected


def test_a_captured_state_opens_with_weights_only():
    state = seeding.capture_rng()
    expected = draw()
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    draw()
    seeding.restore_rng(torch.load(buffer, weights_only=True))
    assert draw() == expected


def test_a_captured_state_does_not_change_with_later_draws():
    state = seeding.capture_rng()
    before = [state["torch"].clone(), state["numpy"][0].clone(), state["python"][1].clone()]
    np.random.rand(1000)
    draw()
    after = [state["torch"], state["numpy"][0], state["python"][1]]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_isolation_leaves_every_generator_as_it_was_also_after_an_error():
    global_seed.seed_everything(4)
    expected = draw()
    global_seed.seed_everything(4)
    with pytest.raises(ZeroDivisionError), seeding.isolate_rng():
        draw()
        1 / 0
    assert draw() == expected


def test_another_numpy_bit_generator_is_refused_in_words():
    original = np.random.get_bit_generator()
    np.random.set_bit_generator(np.random.PCG64(1))
    try:
        with pytest.raises(ConfigError) as caught:
            seeding.capture_rng()
    finally:
        np.random.set_bit_generator(original)
    assert str(caught.value) == (
        "numpy's global generator is a PCG64: lightkit saves and restores only numpy's default, MT19937; "
        "leave np.random.set_bit_generator() out, or use a np.random.Generator of your own"
    )


def test_a_key_decides_every_generator_whatever_was_drawn_before():
    seeding.key_rng(seeding.mix(1, 0))
    expected = draw()
    draw()
    seeding.key_rng(seeding.mix(1, 0))
    assert draw() == expected
    seeding.key_rng(seeding.mix(1, 1))
    assert not set(draw()) & set(expected)


def test_a_key_takes_the_largest_seed_and_gives_torch_and_numpy_different_words():
    seeding.key_rng(2**63 - 1)
    assert np.random.get_state()[1][0] == 2**32 - 1
    seeding.key_rng(seeding.mix(1, 0))
    # both are Mersenne twisters: seeded alike they would draw the same words (seen with 5 for both)
    ours = [torch.randint(2**16, (4,)).tolist(), np.random.randint(2**16, size=4).tolist()]
    torch.manual_seed(5)
    np.random.seed(5)
    alike = [torch.randint(2**16, (4,)).tolist(), np.random.randint(2**16, size=4).tolist()]
    assert alike[0] == alike[1]
    assert ours[0] != ours[1]


def test_mixed_seeds_are_63_bits_and_distinct_for_neighbours():
    seeds = {seeding.mix(base, index) for base in range(100) for index in range(100)}
    assert len(seeds) == 10_000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeding.mix(1, 2) != seeding.mix(2, 1)
    # each bit is set about half of the time
    ones = [sum(seed >> bit & 1 for seed in seeds) for bit in range(63)]
    assert min(ones) > 4_700 and max(ones) < 5_300


def test_mix_is_splitmix64_of_splitmix64():
    # the generator's published first output for the state 0
    assert seeding._splitmix64(0) == 0xE220A8397B1DCDAF
    assert seeding.mix(-1, 2**70) == seeding.mix(2**64 - 1, 2**70)  # any integers do


@pytest.mark.gpu
def test_the_device_generator_comes_back():
    device = "cuda" if torch.cuda.is_available() else "mps"
    torch.rand(3, device=device)
    state = seeding.capture_rng()
    expected = torch.rand(3, device=device)
    torch.rand(3, device=device)
    seeding.restore_rng(state)
    assert torch.equal(torch.rand(3, device=device), expected)


def test_a_snapshot_comes_back_whatever_was_drawn_between():
    np.random.seed(7)
    np.random.randn()  # leaves a spare normal number, which can be handed out without a draw
    draws = {
        "nothing": lambda: None,
        "the spare normal": lambda: np.random.randn(),
        "the spare and more": lambda: np.random.randn(3),
        "uniform": lambda: np.random.rand(2),
        "all": lambda: (np.random.rand(), random.random(), torch.rand(1)),
        "a new seed": lambda: np.random.seed(1),
    }
    for spare in (True, False):
        if not spare:
            np.random.randn()
        for name, draw in draws.items():
            saved = seeding.Snapshot()
            expected = np.random.randn(3).tolist(), random.random(), torch.rand(2).tolist()
            saved.restore()
            for _ in range(2):
                draw()
                saved.restore()
                found = np.random.randn(3).tolist(), random.random(), torch.rand(2).tolist()
                assert found == expected, name
                saved.restore()
            plain = saved.plain()
            np.random.randn(5)
            seeding.restore_rng(plain)
            assert (np.random.randn(3).tolist(), random.random(), torch.rand(2).tolist()) == expected, name
            saved.restore()


def test_a_snapshot_holds_the_spare_normal_that_a_plain_state_has_set():
    np.random.seed(3)
    seeding.Snapshot()
    np.random.randn()
    plain = seeding.capture_rng()
    expected = np.random.randn()
    words_only = np.random.get_state()
    np.random.set_state((*words_only[:3], 0, 0.0))
    seeding.Snapshot()  # sees the same words without a spare
    seeding.restore_rng(plain)
    saved = seeding.Snapshot()
    assert np.random.randn() == expected
    saved.restore()
    assert np.random.randn() == expected


def test_a_spare_normal_is_seen_where_the_same_seed_is_set_again():
    np.random.seed(7)
    np.random.randn(2)
    seeding.Snapshot()  # these words, without a spare
    np.random.seed(7)
    np.random.randn()  # the same words, with one
    state = np.random.get_state()
    expected = np.random.randn(2).tolist()
    np.random.set_state(state)
    with seeding.isolate_rng():
        np.random.rand()
    assert np.random.randn(2).tolist() == expected
    np.random.set_state(state)
    assert seeding.capture_rng()["numpy"][2:] == [1, state[4]]


@pytest.mark.parametrize("is_in_memory", [True, False])
def test_numpy_s_state_is_the_same_whether_read_in_memory_or_not(monkeypatch, is_in_memory):
    if not is_in_memory:
        monkeypatch.setattr(seeding, "_offset_of_spare", lambda: 0)
    monkeypatch.setattr(seeding, "_numpy", seeding._NumpyGlobal())
    for draws in (0, 1, 2, 3):
        np.random.seed(11)
        np.random.randn(draws)
        saved, state = seeding.Snapshot(), np.random.get_state(legacy=False)
        assert isinstance(saved.numpy, bytes) == is_in_memory
        plain = saved.plain()["numpy"]
        assert plain[0].tolist() == state["state"]["key"].tolist()
        assert plain[1:] == [state["state"]["pos"], state["has_gauss"], state["gauss"]]
        expected = np.random.randn(3).tolist()
        saved.restore()
        assert np.random.randn(3).tolist() == expected


def test_snapshots_before_and_after_the_first_use_of_a_gpu_differ():
    before, after = seeding.Snapshot(), seeding.Snapshot()
    before.cuda, after.cuda = None, [torch.zeros(16, dtype=torch.uint8)]
    assert not same_moment(before, after)
    assert same_moment(after, after)
