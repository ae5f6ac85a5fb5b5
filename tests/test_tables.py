"""Times as people read them."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avpea.tables import Table, clock, show


@pytest.mark.parametrize(
    ("seconds", "decimals", "shown"),
    [
        (0, 0, "0 s"),
        (7.0, 0, "7 s"),
        (7.25, 1, "7.2 s"),
        (59.4, 0, "59 s"),
        (59.6, 0, "01:00"),
        (59.96, 1, "01:00.0"),
        (65, 0, "01:05"),
        (133.44, 1, "02:13.4"),
        (3599.6, 0, "1:00:00"),
        (3665, 0, "1:01:05"),
        (360_000, 0, "100:00:00"),
    ],
)
def test_a_time_as_people_read_it(seconds: float, decimals: int, shown: str) -> None:
    assert clock(seconds, decimals) == shown


def test_short_times_beside_long_ones() -> None:
    assert [clock(second, colons=True) for second in (0, 30, 60, 3600)] == ["00:00", "00:30", "01:00", "1:00:00"]


@given(st.integers(60, 86_399))
def test_long_times_are_those_of_the_standard_library(seconds: int) -> None:
    shown = clock(seconds)
    full = shown if shown.count(":") == 2 else f"0:{shown}"
    assert full == str(datetime.timedelta(seconds=seconds))


def test_brackets_and_colons_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    cells = ["[bark]", "a [/b] c", ":dog:", "[red]x"]
    show([Table(["[name]", "b", "c", "d"], [cells], "A [title] :cat:")])
    printed = capsys.readouterr().out
    assert all(text in printed for text in (*cells, "[name]", "A [title] :cat:"))
