"""Generators, data sets and sample orders against the golden data."""

import numpy as np
import pytest

from harness.chacha import StdRng, chacha12_words
from harness.data import TEST, TRAIN, VALIDATION, SampleOrders, load_data, sample_orders
from harness.task import seed_bytes
from harness.xorwow import Xorwow

SEEDS = range(3)


@pytest.mark.parametrize("i", SEEDS)
def test_stdrng_words_equal_rust(golden, i):
    rng = StdRng(golden[i].seed)
    assert [rng.next_u32() for _ in range(8)] == golden[i].first_u32


@pytest.mark.parametrize("i", SEEDS)
def test_layer_seeds_take_the_low_byte_of_32_words_each(golden, i):
    rng = StdRng(golden[i].seed)
    drawn = [int.from_bytes(rng.gen_bytes(32)[:8], "little") for _ in range(6)]
    assert drawn == golden[i].layer_seeds


@pytest.mark.parametrize("i", SEEDS)
def test_orders_equal_rust_and_come_from_a_fresh_generator(golden, i):
    orders = SampleOrders(golden[i].seed)
    assert [orders[epoch].tolist() for epoch in range(3)] == golden[i].orders


@pytest.mark.parametrize("i", SEEDS)
def test_two_hundred_shuffles_take_exactly_as_many_words_as_rust(golden, i):
    rng = StdRng(golden[i].seed)
    rng.shuffles(1000, 200)
    assert rng.next_u64() == golden[i].late_u64


def test_words_do_not_depend_on_how_many_blocks_are_made_at_a_time(golden):
    seed = golden[1].seed
    whole = chacha12_words(seed, 0, 300)
    assert np.array_equal(np.concatenate([chacha12_words(seed, 0, 7), chacha12_words(seed, 7, 293)]), whole)
    rng = StdRng(seed)
    assert [rng.next_u32() for _ in range(len(whole))] == whole.tolist()


def test_the_block_counter_goes_on_past_32_bits(golden):
    seed, turn = golden[1].seed, 2**32
    across = chacha12_words(seed, turn - 1, 2).reshape(2, 16)
    assert np.array_equal(across[1], chacha12_words(seed, turn, 1))
    assert not np.array_equal(across[1], chacha12_words(seed, 0, 1))


def test_next_u64_takes_the_next_two_words_even_across_blocks(golden):
    by_word, by_pair = StdRng(golden[0].seed), StdRng(golden[0].seed)
    by_word.next_u32(), by_pair.next_u32()  # so that pairs lie across the ends of blocks
    for _ in range(200):
        low, high = by_word.next_u32(), by_word.next_u32()
        assert by_pair.next_u64() == low + (high << 32)


def test_orders_do_not_depend_on_when_they_are_asked_for(golden):
    late, early = SampleOrders(golden[2].seed), SampleOrders(golden[2].seed)
    last = late[299]
    assert np.array_equal(last, [early[epoch] for epoch in range(300)][-1])
    assert all(sorted(late[epoch]) == list(range(1000)) for epoch in (0, 15, 16, 298))


def test_xorwow_draws_equal_a_transcription_in_whole_numbers():
    seed, mask = 0xFFFF_FFFF_FFFF_FFF0, 2**32 - 1  # wraps around within the indices
    generators = Xorwow(seed, np.arange(32))
    drawn = np.stack([generators.draw() for _ in range(6)], axis=1)
    for index in range(32):
        seed64 = (seed + index) % 2**64
        s0, s1 = (seed64 & mask) ^ 0xAAD26B49, (seed64 >> 32) ^ 0xF7DCEFDD
        t0, t1 = 1099087573 * s0 & mask, 2591861531 * s1 & mask
        v = [123456789 + t0, 362436069 ^ t0, 521288629 + t1, 88675123 ^ t1, 5783321 + t0]
        v, d = [word & mask for word in v], 6615241 + t1 + t0
        for k in range(6):
            t = v[0] ^ (v[0] >> 2)
            v = [*v[1:], (v[4] ^ (v[4] << 4) ^ t ^ (t << 1)) & mask]
            d += 362437
            assert drawn[index, k] == (v[4] + d) & mask


def test_uniforms_exclude_zero_and_include_one():
    generators = Xorwow(0, np.arange(2))
    generators.draw = lambda: np.array([0, 2**32 - 1], dtype=np.uint32)
    assert generators.uniform().tolist() == [2.0**-33, 1.0]


@pytest.mark.parametrize("task", ["tig", "seed"])
@pytest.mark.parametrize("i", SEEDS)
def test_data_sets_equal_golden(golden, task, i):
    x, f, y = golden[i].data[task]
    data = load_data(task, golden[i].seed)
    assert data.x.dtype == data.f.dtype == data.y.dtype == np.float32
    assert np.array_equal(data.x, x)
    np.testing.assert_allclose(data.f, f, atol=1e-5, rtol=0)  # golden itself: within 1e-4 of the device
    np.testing.assert_allclose(data.y, y, atol=1e-5, rtol=0)


def test_splits_are_consecutive_rows():
    rows = np.arange(1450)
    assert [rows[part].tolist() for part in (TRAIN, VALIDATION, TEST)] == [
        list(range(1000)),
        list(range(1000, 1200)),
        list(range(1200, 1450)),
    ]


@pytest.mark.parametrize("task", ["tig", "seed"])
def test_target_is_alpha_over_250_times_the_sum_over_all_test_entries(golden, task):
    _, f, y = golden[0].data[task]
    noise = (y[1200:].astype(np.float64) - f[1200:]) ** 2
    expected = sum(4 / 250 * entry for entry in noise.ravel().tolist())
    assert load_data(task, golden[0].seed).target_loss(4.0) == pytest.approx(expected, rel=1e-4)


def test_data_follow_from_the_first_8_bytes_but_orders_from_all_32():
    one, other = seed_bytes(1), seed_bytes(1 + 2**64)
    assert np.array_equal(load_data("tig", one).y, load_data("tig", other).y)
    assert not np.array_equal(sample_orders(one)[0], sample_orders(other)[0])


def test_neighboring_seeds_are_near_copies():
    one, next_one = load_data("tig", seed_bytes(1)), load_data("tig", seed_bytes(2))
    assert np.array_equal(one.x[1:], next_one.x[:-1])
    assert np.corrcoef(one.f[1:, 0], next_one.f[:-1, 0])[0, 1] > 0.95


def test_cached_data_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        load_data("tig", seed_bytes(0)).y[0] = 1.0
