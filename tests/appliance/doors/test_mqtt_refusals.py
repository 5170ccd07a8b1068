"""What a sender may get wrong: it is told, it is in the ledger, and nothing is woken."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import ApplianceError, InboxFull, StorageFailed, UnknownModel
from tests.appliance.doors.mqtt_doors import BASE, door, serving
from tests.brokers import Mosquitto
from tests.fakes.mqtt_desk import MqttDesk
from tests.mqtt_wire import Publication, wired
from tests.senders import Sender, sender

REQUEST = f"{BASE}/request"


@pytest.fixture
def desk() -> MqttDesk:
    return MqttDesk()


async def still_serves(someone: Sender, desk: MqttDesk) -> None:
    """The daemon goes on, and every message before this one was acknowledged."""
    await someone.publish(f"{REQUEST}/main/after", "hi")
    await someone.hears(f"{BASE}/response/after")
    assert [request.id for request, _, _ in desk.accepted] == ["after"]


@pytest.mark.parametrize(
    ("topic", "payload", "code", "words"),
    [
        (REQUEST, "", "bad_request", "empty"),
        (REQUEST, "  \n", "bad_request", "empty"),
        (REQUEST, '{"prompt": ', "bad_request", "not JSON"),
        (REQUEST, b"\xff\xfe\x00", "bad_request", "UTF-8"),
        (REQUEST, '{"prompt": "x", "colour": "red"}', "bad_request", "colour"),
        (REQUEST, '{"prompt": 7}', "bad_request", "prompt"),
        (REQUEST, '{"prompt": "x", "max_tokens": -1}', "bad_request", "max_tokens"),
        (REQUEST, '{"prompt": "x", "wattnap": {"deadline_s": -5}}', "bad_request", "deadline_s"),
        (REQUEST, "[1, 2]", "bad_request", "object"),
        (f"{REQUEST}/no spaces", "hi", "bad_request", "model: expected"),
        (f"{REQUEST}/main/a/b", "hi", "bad_request", "none of ours"),
        (REQUEST, "x" * 10_000_000, "too_large", "10000000 bytes"),
        (f"{BASE}/wake", '{"keep_warm_s": "long"}', "bad_request", "keep_warm_s"),
        (f"{BASE}/wake", "now!", "bad_request", "not understood"),
        (f"{BASE}/rest", "mars", "bad_request", "mars"),
        (f"{BASE}/rest", b"\xff", "bad_request", "UTF-8"),
    ],
)
async def test_what_cannot_be_answered_elsewhere_is_told_on_errors(
    broker: Mosquitto,
    desk: MqttDesk,
    topic: str,
    payload: str | bytes,
    code: str,
    words: str,
) -> None:
    """With the topic and the reason, and without the payload."""
    async with (
        sender(broker.port, filters=(f"{BASE}/errors", f"{BASE}/response/#")) as someone,
        serving(door(broker.port, desk)),
    ):
        await someone.publish(topic, payload)
        told = await someone.hears_json(f"{BASE}/errors")

        assert (told["topic"], told["error"]["code"]) == (topic, code)
        assert words in told["error"]["message"]
        await still_serves(someone, desk)
    assert [error.code for _, _, _, error in desk.refusals] == [code]
    assert not desk.wakes


@pytest.mark.parametrize(
    ("topic", "payload", "more", "answered_on"),
    [
        (f"{REQUEST}/main/a1", '{"prompt": 7}', {}, f"{BASE}/response/a1"),
        (REQUEST, '{"prompt": 7, "wattnap": {"id": "a1"}}', {}, f"{BASE}/response/a1"),
        (REQUEST, '{"prompt": 7}', {"ResponseTopic": "x/wattnap/1"}, "x/wattnap/1"),
        (
            REQUEST,
            '{"prompt": 7, "wattnap": {"response_topic": "x/wattnap/1"}}',
            {},
            "x/wattnap/1",
        ),
    ],
)
async def test_a_sender_with_an_address_is_answered_there(
    broker: Mosquitto,
    desk: MqttDesk,
    topic: str,
    payload: str,
    more: dict[str, Any],
    answered_on: str,
) -> None:
    """With its Correlation Data: it waits for that."""
    async with sender(broker.port) as someone, serving(door(broker.port, desk)):
        await someone.publish(topic, payload, CorrelationData=b"c", **more)
        answer = await someone.hears(answered_on)

        assert json.loads(answer.payload)["error"]["code"] == "bad_request"
        properties = await someone.hears_properties(answered_on)
        assert properties.CorrelationData == b"c"
        assert not someone.topics(f"{BASE}/errors")
    assert len(desk.refusals) == 1


@pytest.mark.parametrize(
    "response_topic",
    [
        f"{BASE}/request",
        f"{BASE}/request/main",
        f"{BASE}/wake",
        f"{BASE}/state",
        "kitchen/lights",
    ],
)
async def test_a_forbidden_response_topic_is_refused(
    broker: Mosquitto, desk: MqttDesk, response_topic: str
) -> None:
    """Nothing is published there, and nothing is run."""
    async with (
        sender(broker.port, filters=("#",)) as someone,
        serving(door(broker.port, desk)),
    ):
        await someone.publish(REQUEST, "hi", ResponseTopic=response_topic)
        told = await someone.hears_json(f"{BASE}/errors")

        assert response_topic in told["error"]["message"]
        await still_serves(someone, desk)
        said = [
            m for m in someone.heard if str(m.topic) == response_topic and b"error" in m.payload
        ]
        assert not said


@pytest.mark.parametrize(
    "response_topic", ["x/wattnap/#", "+/wattnap/x", "$SYS/wattnap", "x/wattnap" + "/" * 250]
)
async def test_a_response_topic_in_json_is_held_to_the_same(
    broker: Mosquitto, desk: MqttDesk, response_topic: str
) -> None:
    """Here the broker has not looked at it: wildcards come as far as this."""
    async with (
        sender(broker.port, v5=False) as someone,
        serving(door(broker.port, desk, version="3.1.1")),
    ):
        ours = {"response_topic": response_topic}
        await someone.publish(REQUEST, json.dumps({"prompt": "hi", "wattnap": ours}))
        told = await someone.hears_json(f"{BASE}/errors")

        assert response_topic in told["error"]["message"]
        await still_serves(someone, desk)


async def test_the_fourth_hop_is_told_on_errors_only(broker: Mosquitto, desk: MqttDesk) -> None:
    """An answer to who forwards our answers would keep the loop going."""
    async with sender(broker.port) as someone, serving(door(broker.port, desk)):
        await someone.publish(
            REQUEST, "hi", ResponseTopic="x/wattnap/1", UserProperty=[("wattnap-hops", "4")]
        )
        told = await someone.hears_json(f"{BASE}/errors")

        assert told["error"]["code"] == "loop"
        await still_serves(someone, desk)
        assert not someone.topics("x/")


async def test_an_error_quotes_little(mosquitto: str, tmp_path: Path, desk: MqttDesk) -> None:
    """However long what is wrong was: the broker would cut us over an error that is too large
    for it, send the message again, and so on for ever."""
    with Mosquitto(mosquitto, tmp_path / "small", "max_packet_size 20000\n") as broker:
        async with sender(broker.port) as someone, serving(door(broker.port, desk)):
            wide = "\ue000" * 6000  # three bytes each; quoted, six
            for payload in (
                {"prompt": "x", "model": wide},
                {"prompt": 5, "wattnap": {"response_topic": "x/wattnap/1", "correlation": wide}},
            ):
                await someone.publish(REQUEST, json.dumps(payload, ensure_ascii=False))
            await someone.publish(f"{REQUEST}/main/a/" + wide, "x")
            await still_serves(someone, desk)

            await someone.hears_times(f"{BASE}/errors", 2)
            told = [m for m in someone.heard if b'"error"' in m.payload]
            assert all(len(m.payload) < 8192 for m in told)
    assert len(desk.refusals) == 3
    assert desk.sessions_lost == 1


@pytest.mark.parametrize("v5", [True, False], ids=["v5", "v311"])
async def test_a_retained_prompt_is_ignored(broker: Mosquitto, desk: MqttDesk, v5: bool) -> None:
    """It is told once, however often we come back; taking it away is no mistake."""
    async with (
        sender(broker.port, v5=v5) as someone,
        contextlib.AsyncExitStack() as stack,
    ):
        await someone.publish(REQUEST, "run me for ever", retain=True)
        await stack.enter_async_context(
            serving(door(broker.port, desk, version="5" if v5 else "3.1.1"))
        )
        told = await someone.hears_json(f"{BASE}/errors")
        assert "retain" in told["error"]["message"]
        at_work = stack.pop_all()
    async with at_work:
        for id in ("a1", "a2"):
            broker.stop()
            broker.start()
            async with sender(broker.port) as someone:
                await someone.publish(f"{REQUEST}/main/{id}", "hi")
                await someone.hears(f"{BASE}/response/{id}")
                assert not someone.topics(f"{BASE}/errors")
    assert len(desk.refusals) == 1


async def test_a_prompt_published_to_be_retained_is_refused_at_once(
    broker: Mosquitto, desk: MqttDesk
) -> None:
    """Not run now and refused later. With MQTT 5 we see the flag; an empty one removes it."""
    async with sender(broker.port) as someone, serving(door(broker.port, desk)):
        await someone.publish(REQUEST, "hi", retain=True)
        await someone.hears(f"{BASE}/errors")
        await someone.publish(REQUEST, "", retain=True)
        await still_serves(someone, desk)

        assert len(someone.topics(f"{BASE}/errors")) == 1
    assert len(desk.refusals) == 1


@pytest.mark.parametrize(
    "error",
    [
        UnknownModel("gpt", ("main",)),
        InboxFull(1000, 12.0),
        StorageFailed("database or disk is full"),
    ],
)
async def test_what_the_desk_refuses_is_told_and_acknowledged(
    broker: Mosquitto, desk: MqttDesk, error: ApplianceError
) -> None:
    """A clear error, when to try again, and the broker does not keep the message."""
    desk.fail_next = error
    async with sender(broker.port) as someone:
        async with serving(door(broker.port, desk)):
            await someone.publish(f"{REQUEST}/main/a1", "hi")
            told = await someone.hears_json(f"{BASE}/response/a1")
            assert told["error"] == error.as_dict()
        async with serving(door(broker.port, desk)):
            await still_serves(someone, desk)
    assert len(desk.refusals) == 1


async def test_another_body_under_a_known_id_is_a_conflict(
    broker: Mosquitto, desk: MqttDesk
) -> None:
    """The first one is untouched."""
    async with sender(broker.port) as someone, serving(door(broker.port, desk)):
        await someone.publish(f"{REQUEST}/main/a1", "hi")
        await someone.hears(f"{BASE}/response/a1")
        await someone.publish(f"{REQUEST}/main/a1", "something else")
        await someone.hears(lambda m: b"conflict" in m.payload)
    assert len(desk.accepted) == 1


async def test_a_property_that_no_client_can_decode_keeps_nobody_out(
    broker: Mosquitto, desk: MqttDesk
) -> None:
    """Mosquitto lets U+FEFF pass, paho cuts the connection over it, and the message comes again."""
    async with (
        sender(broker.port, filters=(f"{BASE}/errors", f"{BASE}/response/#")) as someone,
        serving(door(broker.port, desk)),
    ):
        publish = await asyncio.create_subprocess_exec(
            *("mosquitto_pub", "-p", str(broker.port), "-V", "5", "-q", "1", "-t", REQUEST),
            *("-m", "hi", "-D", "publish", "content-type", "\ufeff"),
            stderr=subprocess.DEVNULL,
        )
        assert await publish.wait() == 0
        told = await someone.hears_json(f"{BASE}/errors")

        assert "cannot be read" in told["error"]["message"]
        await still_serves(someone, desk)
    assert len(desk.refusals) == 1


async def test_a_megabyte_of_properties_holds_up_nobody(broker: Mosquitto, desk: MqttDesk) -> None:
    """paho took minutes to decode one; it is refused, acknowledged and told."""
    flood = Publication(REQUEST, b"hi", user=[("", "")] * 200_000)
    async with (
        sender(broker.port, filters=(f"{BASE}/errors", f"{BASE}/response/#")) as someone,
        serving(door(broker.port, desk)),
    ):
        async with wired(broker.port) as attacker:
            await attacker.publish([flood])
        told = await someone.hears_json(f"{BASE}/errors")

        assert "1000000 bytes of properties" in told["error"]["message"]
        await still_serves(someone, desk)


async def test_a_flood_of_nonsense_is_survived(hasty_broker: Mosquitto, desk: MqttDesk) -> None:
    """More than may be in work at once: each is told, and then a prompt is served."""
    async with (
        sender(hasty_broker.port, filters=(f"{BASE}/errors", f"{BASE}/response/#")) as someone,
        serving(door(hasty_broker.port, desk)),
    ):
        async with asyncio.TaskGroup() as tasks:
            for _ in range(1000):
                tasks.create_task(someone.publish(REQUEST, "{", qos=1))
        await still_serves(someone, desk)
        await someone.hears(lambda _: len(someone.heard) == 1001)
    assert len(desk.refusals) == 1000
