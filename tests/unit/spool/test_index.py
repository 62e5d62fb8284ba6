"""The index codec: whole, torn at every byte, with flipped bits. It may say less than was written, nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from supervisor.spool.index import RECORD_SIZE, START, IndexRecord, follows, good_records, pack_record

# What came: stream, length, nanoseconds since what came before.
Arrivals = list[tuple[int, int, int]]
arrivals = st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(1, 1 << 40), st.integers(0, 1 << 40)), max_size=12)


def records_of(pieces: Arrivals) -> list[IndexRecord]:
    ends = {1: 0, 2: 0}
    time_ns = 1_700_000_000_000_000_000
    records = []
    for sequence, (stream, length, later_ns) in enumerate(pieces):
        ends[stream] += length
        time_ns += later_ns
        records.append((sequence, time_ns, ends[1], ends[2], stream))
    return records


def packed(records: list[IndexRecord]) -> bytes:
    return b"".join(pack_record(*record) for record in records)


def in_order(records: list[IndexRecord]) -> bool:
    return all(follows(record, before) for before, record in zip([START, *records], records, strict=False))


@given(arrivals)
def test_packed_arrivals_are_unpacked(pieces: Arrivals) -> None:
    records = records_of(pieces)
    data = packed(records)
    assert len(data) == len(records) * RECORD_SIZE
    assert list(good_records(data, 0)) == records
    assert in_order(records)


@given(arrivals, st.integers(0, 12))
def test_an_index_can_be_read_from_anywhere(pieces: Arrivals, cut: int) -> None:
    records = records_of(pieces)
    assert list(good_records(packed(records[cut:]), cut)) == records[cut:]


@given(arrivals)
def test_torn_at_every_byte_it_ends_at_the_last_whole_record(pieces: Arrivals) -> None:
    records = records_of(pieces)[:4]
    data = packed(records)
    for size in range(len(data) + 1):
        assert list(good_records(data[:size], 0)) == records[: size // RECORD_SIZE]


@given(arrivals.filter(bool), st.data())
def test_a_flipped_bit_costs_its_record_and_shows_as_a_gap(pieces: Arrivals, data: st.DataObject) -> None:
    records = records_of(pieces)
    raw = bytearray(packed(records))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    bad = bit // 8 // RECORD_SIZE
    left = list(good_records(bytes(raw), 0))
    assert left == records[:bad] + records[bad + 1 :]
    assert in_order(left)


@given(st.binary(max_size=400))
def test_garbage_is_no_record(garbage: bytes) -> None:
    assert list(good_records(garbage, 0)) == []


@given(arrivals.filter(lambda pieces: len(pieces) > 2), st.data())
def test_a_whole_record_in_the_wrong_place_is_none(pieces: Arrivals, data: st.DataObject) -> None:
    """Left out, doubled or exchanged: each record has its place."""
    records = records_of(pieces)
    place = data.draw(st.integers(0, len(records) - 2))
    missing = records[:place] + records[place + 1 :]
    doubled = records[: place + 1] + records[place:]
    exchanged = [*records[:place], records[place + 1], records[place], *records[place + 2 :]]
    assert list(good_records(packed(missing), 0)) == records[:place]
    assert list(good_records(packed(doubled), 0)) == records[: place + 1]
    assert list(good_records(packed(exchanged), 0)) == records[:place] + records[place + 2 :]


def test_a_record_of_no_known_stream_is_none() -> None:
    assert list(good_records(pack_record(0, 100, 5, 0, 3), 0)) == []


def test_index_records_that_cannot_follow() -> None:
    first: IndexRecord = (0, 100, 5, 0, 1)
    for second in (
        (1, 99, 6, 0, 1),  # earlier than the one before
        (1, 100, 5, 0, 1),  # nothing came
        (1, 100, 4, 0, 1),  # less than before
        (1, 100, 6, 0, 2),  # the other stream grew
        (1, 100, 6, 1, 1),  # both grew
        (1, 100, 6, 0, 0),  # a base record stands for no bytes
        (0, 100, 5, 0, 1),  # the same again
        (2, 100, 6, -1, 1),  # less, with one missing in between
    ):
        assert not follows(second, first), second
    for second in (
        (1, 100, 6, 0, 1),
        (1, 101, 5, 2, 2),
        (1, 100, 5, 0, 0),  # the first of the next file
        (2, 100, 6, 1, 1),  # one is missing: both may have grown
        (9, 200, 7, 9, 0),
    ):
        assert follows(second, first), second


def test_a_record_is_forty_bytes_as_they_are_on_disk() -> None:
    assert pack_record(1, 2, 3, 4, 2).hex() == (
        "01000000000000000200000000000000030000000000000004000000000000000200000044220bfa"
    )
