from __future__ import annotations

import logging

import pytest

from appliance.doors.mqtt_retry import SPOKEN_EVERY_S, Outage


def test_pauses_double_up_to_the_longest() -> None:
    """Each is shortened by up to half, so that appliances do not return in step."""
    outage = Outage("b:1", min_s=1.0, max_s=8.0)
    pauses = [outage.failed("gone", 0.0, lasted_s=0.0) for _ in range(100)]

    for pause_s, longest_s in zip(pauses, [1, 2, 4, 8, 8, *[8] * 95], strict=True):
        assert longest_s / 2 <= pause_s <= longest_s


def test_a_stable_connection_starts_the_pauses_anew() -> None:
    """One that lasted for seconds only does not."""
    outage = Outage("b:1", min_s=1.0, max_s=64.0)
    for _ in range(5):
        outage.failed("gone", 0.0, lasted_s=1.0)

    assert outage.failed("gone", 0.0, lasted_s=1.0) > 1.0
    assert outage.failed("gone", 0.0, lasted_s=60.0) <= 1.0


def test_an_hour_without_a_broker_is_a_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    """The first failure, then one in ten minutes; and when it is back."""
    caplog.set_level(logging.INFO)
    outage = Outage("b:1", min_s=0.5, max_s=60.0)
    now_s = 0.0
    while now_s < 3600:
        now_s += outage.failed("refused", now_s, lasted_s=0.0)
    outage.connected(now_s)

    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert 5 <= len(warnings) <= 3600 / SPOKEN_EVERY_S + 1
    assert "after 36" in caplog.records[-1].getMessage()


def test_two_with_one_name_do_not_fight() -> None:
    """Who was put out by another of the same name comes back late."""
    outage = Outage("b:1", min_s=0.5, max_s=60.0)

    assert outage.failed("taken over", 0.0, lasted_s=5.0, at_most=True) >= 30.0
