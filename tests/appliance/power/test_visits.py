"""Traces of arrivals, from files and from the log."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import DataUnusable
from appliance.power.visits import idle_periods, logged, read, shipped
from appliance.storage.ledger import Served
from policies.replay import Visit


def written(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_idle_is_from_the_last_completion_to_the_next_arrival(tmp_path: Path) -> None:
    """Requests that overlap leave no gap; one that comes as another ends, neither."""
    path = written(
        tmp_path,
        "t_s,local_hour,service_s\n100,23.5,10\n105,,60\n165,,5\n1970,,\n1980,,1\n",
    )
    found = read(path)

    assert found.name == str(path)
    assert (found.requests, found.span_s) == (5, 1881.0)
    assert list(found) == [
        Visit(1800.0, 23 * 60 + 31, 70.0, person=True),
        Visit(10.0, 24 * 60 + 1, 0.0, person=True),
    ]


def test_lines_may_stand_in_any_order(tmp_path: Path) -> None:
    """They are sorted; the hour is that of the first, whichever line tells it."""
    found = read(written(tmp_path, "service_s,local_hour,t_s\n1,3.0,7200\n1,,0\n"))

    assert list(found) == [Visit(7199.0, 60, 1.0, person=True)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no column t_s"),
        ("when\n3\n", "no column t_s"),
        ("t_s\n", "no arrival"),
        ("t_s\n1\nsoon\n", "line 3: t_s is 'soon', which is no number"),
        ("t_s\n1\nnan\n", "line 3: t_s is 'nan', which is no number"),
        ("t_s\n1\ninf\n", "line 3: t_s is 'inf', which is no number"),
        ("t_s\n1\n-1e300\n", "line 3: t_s is '-1e300', which is too much"),
        ("t_s,service_s\n1,-2\n", "line 2: service_s is -2.0"),
        ("t_s,local_hour\n1,noon\n", "line 2: local_hour is 'noon', which is no number"),
    ],
)
def test_a_trace_that_is_none_is_refused(tmp_path: Path, text: str, told: str) -> None:
    """With the file, the line and what is wrong."""
    path = written(tmp_path, text)
    with pytest.raises(DataUnusable) as caught:
        read(path)

    assert str(caught.value).startswith(str(path))
    assert told in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    """Likewise."""
    binary = tmp_path / "picture.png"
    binary.write_bytes(b"\x89PNG\xff\xfe")

    with pytest.raises(DataUnusable, match="No such file"):
        read(tmp_path / "nothing.csv")
    with pytest.raises(DataUnusable, match="utf-8"):
        read(binary)


def test_the_traces_that_come_with_it_can_be_read() -> None:
    """As many idle periods as were counted by hand."""
    counts = {path.stem: len(read(path)) for path in shipped()}

    assert len(counts) == 11
    assert counts["coding_agent_0381"] == 284
    assert counts["home_sensor_events_A"] == 408


LOG = [
    Served("2026-01-05T08:00:00Z", "2026-01-05T08:00:30Z", "2026-01-05T08:00:40Z", person=True),
    Served("2026-01-05T09:00:00Z", "2026-01-05T09:00:00Z", "2026-01-05T09:00:20Z", person=False),
    Served("2026-01-05T10:00:00Z", "2026-01-05T10:00:00Z", "2026-01-05T10:00:05Z", person=True),
]


def test_the_log_is_a_trace_too() -> None:
    """Of arrivals and their work: the wake that the first had to wait for is no work."""
    found = logged("log", LOG)

    assert [(gap.idle_s, gap.busy_s, gap.person) for gap in found] == [
        (3590.0, 10.0, False),
        (3580.0, 20.0, True),
    ]
    assert found.requests == 3


def test_a_policy_learns_from_it_what_it_would_have_seen() -> None:
    """People only, and busy from the arrival on."""
    found = idle_periods(LOG)

    assert [(gap.idle_s, gap.busy_s) for gap in found] == [(7160.0, 40.0)]


def test_an_empty_log_is_an_empty_trace() -> None:
    """Nothing came of nothing."""
    assert len(logged("log", [])) == len(idle_periods([])) == 0
    assert logged("log", []).span_s == 0.0
