"""For any upload, the photo reader returns a small picture or raises one of its two errors, in limited time and memory.

`FUZZ_EXAMPLES` sets the number of examples. tests/fuzz does the same with coverage guidance.
"""

import os
import random
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.pictures import check, seeds, spoil

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "1000"))
SEEDS = seeds()
# The function has 30 seconds for pictures 25 times as large.
SECONDS = 1.5

fuzz = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)


@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_every_kind_of_file_is_read_or_refused(seed: int) -> None:
    assert check(SEEDS[seed]) in {"picture", "PhotoTooLarge", "UnreadablePhoto"}


@fuzz
@given(seed=st.sampled_from(SEEDS), randomness=st.integers(0, 2**64), times=st.integers(1, 8))
def test_a_damaged_photo_is_read_or_refused(seed: bytes, randomness: int, times: int) -> None:
    data = spoil(seed, random.Random(randomness), times)
    started = time.process_time()

    check(data)

    assert time.process_time() - started < SECONDS


@settings(parent=fuzz, max_examples=EXAMPLES // 10)
@given(start=st.sampled_from(SEEDS), end=st.sampled_from(SEEDS), cut=st.floats(0, 1), other_cut=st.floats(0, 1))
def test_one_photo_continued_by_another_is_read_or_refused(
    start: bytes, end: bytes, cut: float, other_cut: float
) -> None:
    check(start[: int(cut * len(start))] + end[int(other_cut * len(end)) :])


@settings(parent=fuzz, max_examples=EXAMPLES // 10)
@given(data=st.binary(max_size=400), start=st.sampled_from([b"", *(seed[:24] for seed in SEEDS)]))
def test_any_bytes_are_read_or_refused(data: bytes, start: bytes) -> None:
    check(start + data)
