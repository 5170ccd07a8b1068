from __future__ import annotations

import pytest

from appliance.doors.mqtt_topics import Asked, Topics, matches
from appliance.errors import BadRequest, ConfigError

TOPICS = Topics("wattnap/home")


@pytest.mark.parametrize(
    ("topic", "asked"),
    [
        ("wattnap/home/request", Asked("request")),
        ("wattnap/home/request/main", Asked("request", "main")),
        ("wattnap/home/request/main/a1", Asked("request", "main", "a1")),
        ("wattnap/home/cancel/a1", Asked("cancel", id="a1")),
        ("wattnap/home/wake", Asked("wake")),
        ("wattnap/home/rest", Asked("rest")),
    ],
)
def test_a_topic_says_what_is_asked(topic: str, asked: Asked) -> None:
    """The model and the id may stand in the topic."""
    assert TOPICS.understand(topic) == asked


@pytest.mark.parametrize(
    "topic",
    [
        "wattnap/home/request/a/b/c",
        "wattnap/home/request//x",
        "wattnap/home/wake/up",
        "other/request",
        "",
    ],
)
def test_other_topics_are_refused(topic: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(BadRequest, match="none of ours"):
        TOPICS.understand(topic)


@pytest.mark.parametrize(
    "topic", ["wattnap/home/response/x", "kitchen/wattnap/answers/1", "kitchen/wattnap"]
)
def test_answers_may_go_where_the_filters_allow(topic: str) -> None:
    """By default below response, and to <anyone>/wattnap."""
    TOPICS.check_response(topic)


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("wattnap/home/request", "own"),
        ("wattnap/home/request/main", "own"),
        ("wattnap/home/state", "own"),
        ("wattnap/home", "own"),
        ("wattnap/home/response/+", "wildcard"),
        ("kitchen/wattnap/#", "wildcard"),
        ("$SYS/wattnap/x", "broker"),
        ("kitchen/wattnap/\0", "character"),
        ("kitchen/wattnap/\u0007", "character"),
        ("kitchen/wattnap/\ufeff", "character"),
        ("kitchen/wattnap" + "/" * 199, "levels"),
        ("kitchen/wattnap/\ud800", "character"),
        ("kitchen/lights", "not allowed"),
        ("", "empty"),
        ("kitchen/wattnap/" + "x" * 2000, "longer"),
    ],
)
def test_answers_go_nowhere_else(topic: str, reason: str) -> None:
    """What could loop, break the connection, or reach strangers is refused with its reason."""
    with pytest.raises(BadRequest, match=reason):
        TOPICS.check_response(topic)


def test_our_own_inputs_are_refused_whatever_the_filters_allow() -> None:
    """A wide filter does not make a loop possible."""
    topics = Topics("a/wattnap", ("#",))

    topics.check_response("anything/else")
    with pytest.raises(BadRequest, match="own"):
        topics.check_response("a/wattnap/request")


@pytest.mark.parametrize(
    ("given", "topic", "selected"),
    [
        ("#", "a/b", True),
        ("#", "$SYS/a", False),
        ("+/a", "$SYS/a", False),
        ("$SYS/#", "$SYS/a", True),
        ("a/#", "a", True),
        ("a/#", "ab", False),
        ("a/+", "a/", True),
        ("a/+", "a", False),
        ("+/+", "/a", True),
        ("+", "/a", False),
        ("a/+/c", "a/b/c", True),
        ("a/+/c", "a/b/d", False),
    ],
)
def test_filters_select_as_mqtt_says(given: str, topic: str, selected: bool) -> None:
    """The examples of MQTT 5.0, section 4.7."""
    assert matches(given, topic) is selected


@pytest.mark.parametrize("given", ["a/#/b", "a+/b", "", "#a"])
def test_a_filter_that_mqtt_does_not_allow_is_a_mistake_in_the_file(given: str) -> None:
    """It is found at start-up, and the key is named."""
    with pytest.raises(ConfigError, match=r"mqtt\.response_topics"):
        Topics("wattnap/home", (given,))


@pytest.mark.parametrize("base", ["", "a/+", "/a", "a/", "$SYS/a"])
def test_a_base_that_mqtt_does_not_allow_is_a_mistake_in_the_file(base: str) -> None:
    """It is found at start-up, and the key is named."""
    with pytest.raises(ConfigError, match=r"mqtt\.base"):
        Topics(base)
