"""The MQTT door's topics: what each of ours means, and where senders may ask for answers.

Pure. `docs/mqtt.md` shows the same to senders.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from appliance.errors import BadRequest, ConfigError

MAX_TOPIC_BYTES = 1024
"""Ours; MQTT itself allows 65 535. A topic is stored with each request."""

MAX_LEVELS = 200
"""Mosquitto lets a longer Response Topic pass, and cuts the connection of who publishes there."""


class Asked(Struct, frozen=True):
    """What a topic asks for. `model` and `id` stand in the topic, or are None."""

    what: Literal["request", "cancel", "wake", "rest"]
    model: str | None = None
    id: str | None = None


class Topics:
    """The topics below `base`.

    `response_topics` are filters that a Response Topic must match; none given:
    `<base>/response/#` and `+/wattnap/#`.

    Raises ConfigError for a base or a filter that MQTT does not allow.
    """

    def __init__(self, base: str, response_topics: tuple[str, ...] = ()) -> None:
        if problem := find_problem(base):
            raise ConfigError(f"mqtt.base: {base!r} {problem}")
        if base.strip("/") != base:
            raise ConfigError(f"mqtt.base: {base!r} starts or ends with /")
        for given in response_topics:
            if problem := _find_filter_problem(given):
                raise ConfigError(f"mqtt.response_topics: {given!r} {problem}")
        self.base = base
        self.response_topics = response_topics or (f"{base}/response/#", "+/wattnap/#")
        self.inputs = (f"{base}/request/#", f"{base}/cancel/+", f"{base}/wake", f"{base}/rest")
        self.availability = f"{base}/availability"
        self.state = f"{base}/state"
        self.energy = f"{base}/energy"
        self.errors = f"{base}/errors"

    def understand(self, topic: str) -> Asked:
        """Raises BadRequest for a topic that is none of our inputs."""
        match topic.removeprefix(f"{self.base}/").split("/"):
            case ["request"]:
                return Asked("request")
            case ["request", model] if model:
                return Asked("request", model)
            case ["request", model, id] if model and id:
                return Asked("request", model, id)
            case ["cancel", id] if id:
                return Asked("cancel", id=id)
            case ["wake"]:
                return Asked("wake")
            case ["rest"]:
                return Asked("rest")
        raise BadRequest(
            f"topic: {topic!r} is none of ours; expected request[/<model>[/<id>]],"
            f" cancel/<id>, wake or rest below {self.base}"
        )

    def check_response(self, topic: str) -> None:
        """Raises BadRequest if no answer may be published there."""
        if problem := find_problem(topic):
            raise BadRequest(f"response topic: {topic!r} {problem}")
        ours = topic == self.base or topic.startswith(f"{self.base}/")
        if ours and not topic.startswith(f"{self.base}/response/"):
            # Our inputs would make us answer ourselves; the others are ours to speak on.
            raise BadRequest(f"response topic: {topic!r} is the appliance's own")
        if not any(matches(given, topic) for given in self.response_topics):
            allowed = ", ".join(self.response_topics)
            raise BadRequest(
                f"response topic: {topic!r} is not allowed; allowed: {allowed}"
                " (mqtt.response_topics)"
            )

    def response(self, id: str) -> str:
        return f"{self.base}/response/{id}"

    def part(self, id: str) -> str:
        return f"{self.base}/response/{id}/part"

    def status(self, id: str) -> str:
        return f"{self.base}/status/{id}"


def find_problem(topic: str) -> str:
    """Why nothing can be published to `topic`; empty if it can."""
    problems = {
        "is empty": not topic,
        "has a wildcard": "+" in topic or "#" in topic,
        "belongs to the broker": topic.startswith("$"),
        # Mosquitto cuts the connection of who publishes to one of these.
        "has a character that MQTT does not allow": any(map(_is_forbidden, topic)),
        f"has more than {MAX_LEVELS} levels": topic.count("/") >= MAX_LEVELS,
        f"is longer than {MAX_TOPIC_BYTES} bytes": len(topic) > MAX_TOPIC_BYTES
        or len(topic.encode(errors="replace")) > MAX_TOPIC_BYTES,
    }
    return next((problem for problem, has in problems.items() if has), "")


def matches(given: str, topic: str) -> bool:
    """True if the filter `given` selects `topic`: MQTT 5.0, section 4.7."""
    wanted, levels = given.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in {"+", "#"}:
        return False
    if wanted[-1] == "#":  # also stands for no level at all
        wanted.pop()
        if len(levels) < len(wanted):
            return False
        levels = levels[: len(wanted)]
    return len(wanted) == len(levels) and all(
        want in {"+", level} for want, level in zip(wanted, levels, strict=True)
    )


def _is_forbidden(char: str) -> bool:
    """Controls, surrogates and noncharacters: MQTT 5.0, section 1.5.4."""
    code = ord(char)
    return (
        code < 0x20
        or 0x7F <= code < 0xA0
        or 0xD800 <= code < 0xE000
        or 0xFDD0 <= code < 0xFDF0
        or code & 0xFFFE == 0xFFFE
        or code == 0xFEFF  # which paho would not decode
    )


def _find_filter_problem(given: str) -> str:
    levels = given.split("/")
    if "#" in levels[:-1] or any(len(level) > 1 and set(level) & set("+#") for level in levels):
        return "has a wildcard that is not a whole level, or # before the last one"
    return find_problem(given.replace("+", "x").replace("#", "x"))
