"""Sizes as people write them. Runs in: pytest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levity.errors import InvalidRequest
from levity.sizes import LOG_CAP_LEAST, check_log_cap, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        pytest.param("0", 0, id="0"),
        pytest.param("none", 0, id="none"),
        pytest.param("None", 0, id="None"),
        pytest.param("1", 1, id="1"),
        pytest.param("1048576", 2**20, id="1048576"),
        pytest.param("64K", 2**16, id="64K"),
        pytest.param("64k", 2**16, id="64k"),
        pytest.param("1M", 2**20, id="1M"),
        pytest.param("10G", 10 * 2**30, id="10G"),
        pytest.param("2T", 2**41, id="2T"),
        pytest.param("1.5G", 3 * 2**29, id="1.5G"),
        pytest.param("0.5k", 512, id="0.5k"),
        pytest.param("0.0001K", 0, id="0.0001K"),
        pytest.param(" 7M ", 7 * 2**20, id=" 7M "),
        pytest.param("007", 7, id="007"),
    ],
)
def test_a_size_is_so_many_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


NO_SIZES = (
    *("", " ", "K", ".", ".5M", "1.M", "1.5", "-1", "+1", "1e9", "1 K", "1KB", "1KiB", "1P", "0x10", "1_000", "1,5G"),
    *("nothing", "inf", "nan", "\u0661", "1\u0661K", "\udcff", "1\0", "9" * 5000, "9" * 40, "5000000T"),
)


@pytest.mark.parametrize("text", NO_SIZES, ids=lambda text: ascii(text[:45]))
def test_a_text_that_is_no_size_is_refused_in_one_line_that_shows_it(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_size(text)
    assert len(refused.value.message) < 300
    assert "\n" not in refused.value.message
    assert "none" in refused.value.message
    assert refused.value.exit_status == 2


@given(st.text())
def test_anything_is_a_size_or_refused(text: str) -> None:
    try:
        size = parse_size(text)
    except InvalidRequest:
        return
    assert 0 <= size <= 2**62


@given(st.integers(min_value=0, max_value=2**62))
def test_every_number_of_bytes_can_be_written(size: int) -> None:
    assert parse_size(str(size)) == size


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(0, id="none"),
        pytest.param(LOG_CAP_LEAST, id="the least"),
        pytest.param(2**30, id="1G"),
        pytest.param(2**62, id="the largest"),
    ],
)
def test_a_cap_that_can_be_kept(size: int) -> None:
    assert check_log_cap(size) == size


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(1, id="one byte"),
        pytest.param(LOG_CAP_LEAST - 1, id="one byte below the least"),
        pytest.param(-1, id="negative"),
        pytest.param(2**63, id="too large"),
        pytest.param(True, id="a boolean"),
        pytest.param(1.5e9, id="a fraction"),
        pytest.param("1G", id="text"),
        pytest.param(None, id="none"),
        pytest.param([], id="a list"),
    ],
)
def test_a_cap_that_makes_no_sense(size: object) -> None:
    with pytest.raises(InvalidRequest):
        check_log_cap(size)
