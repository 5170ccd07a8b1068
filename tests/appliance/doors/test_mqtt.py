"""The MQTT door on a real broker: what senders send, and what they hear."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest
import uvloop

from appliance.errors import EngineRefused
from tests.appliance.doors.mqtt_doors import BASE, door, serving
from tests.brokers import Mosquitto
from tests.fakes.mqtt_desk import MqttDesk
from tests.senders import sender

both = pytest.mark.parametrize("v5", [True, False], ids=["v5", "v311"])


@pytest.fixture
def desk() -> MqttDesk:
    return MqttDesk()


def version(v5: bool) -> str:
    return "5" if v5 else "3.1.1"


@both
@pytest.mark.parametrize(
    "payload",
    [
        "two words",
        json.dumps({"prompt": "two words", "max_tokens": 8}),
        json.dumps({"messages": [{"role": "user", "content": "two words"}], "temperature": 0}),
    ],
    ids=["text", "prompt", "chat"],
)
async def test_a_prompt_is_answered(
    broker: Mosquitto, desk: MqttDesk, payload: str, v5: bool
) -> None:
    """Plain text, a prompt, or a chat body; the answer is on response/<id>."""
    async with (
        sender(broker.port, v5=v5) as someone,
        serving(door(broker.port, desk, version=version(v5))),
    ):
        await someone.publish(f"{BASE}/request/main/a1", payload)

        assert await someone.hears_json(f"{BASE}/response/a1") == {"id": "a1", "text": "two words"}
    assert desk.accepted[0][0].model == "main"
    assert desk.delivered_numbers == [1]


def test_it_runs_on_uvloop(broker: Mosquitto) -> None:
    """The daemon's own loop: a prompt, an answer, a clean goodbye."""

    async def main() -> None:
        async with sender(broker.port) as someone:
            async with serving(door(broker.port, MqttDesk())):
                await someone.publish(f"{BASE}/request", "hello")
                await someone.hears(f"{BASE}/response/made-1")
            await someone.hears(lambda m: m.payload == b"offline")

    uvloop.run(main())


async def test_the_answer_goes_to_the_response_topic(broker: Mosquitto, desk: MqttDesk) -> None:
    """With its Correlation Data, byte for byte, and one more hop."""
    async with sender(broker.port) as someone, serving(door(broker.port, desk)):
        await someone.publish(
            f"{BASE}/request",
            "hi",
            ResponseTopic="x/wattnap/1",
            CorrelationData=b"\0\xffc",
            UserProperty=[("wattnap-hops", "1"), ("client", "kitchen")],
        )
        answer = await someone.hears("x/wattnap/1")

        properties = await someone.hears_properties("x/wattnap/1")
        assert properties.CorrelationData == b"\0\xffc"
        assert properties.ContentType == "application/json"
        assert ("wattnap-hops", "2") in properties.UserProperty
        assert not answer.retain
    assert desk.accepted[0][0].client == "kitchen"


async def test_with_3_1_1_the_same_is_said_in_json(broker: Mosquitto, desk: MqttDesk) -> None:
    """There are no properties: the correlation is a field of the answer."""
    ours = {"response_topic": "x/wattnap/1", "correlation": "c7", "deadline_s": 60}
    async with (
        sender(broker.port, v5=False) as someone,
        serving(door(broker.port, desk, version="3.1.1")),
    ):
        await someone.publish(f"{BASE}/request", json.dumps({"prompt": "hi", "wattnap": ours}))
        answer = await someone.hears_json("x/wattnap/1")

        assert answer == {"id": "made-1", "text": "hi", "correlation": "c7"}
    assert desk.accepted[0][0].deadline_s == 60


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_any_quality_of_service_is_served(
    broker: Mosquitto, desk: MqttDesk, qos: int
) -> None:
    """All are accepted durably; only a message with QoS 0 has nothing to be recognised by."""
    async with sender(broker.port) as someone, serving(door(broker.port, desk)):
        await someone.publish(f"{BASE}/request", "hi", qos=qos)
        await someone.hears(f"{BASE}/response/made-1")

    assert (desk.accepted[0][2] is None) == (qos == 0)


async def test_a_stream_comes_in_parts(broker: Mosquitto, desk: MqttDesk) -> None:
    """In order, before the answer; and the status says how far it is."""
    async with sender(broker.port) as someone, serving(door(broker.port, desk)):
        words = [f"w{n}" for n in range(50)]
        await someone.publish(
            f"{BASE}/request/main/a1", " ".join(words), UserProperty=[("wattnap-stream", "true")]
        )
        await someone.hears(f"{BASE}/response/a1")

        parts = [json.loads(m.payload) for m in someone.heard if str(m.topic).endswith("/part")]
        assert [(p["index"], p["text"]) for p in parts] == list(enumerate(words))
        states = [
            json.loads(m.payload)["state"] for m in someone.heard if "/status/" in str(m.topic)
        ]
        assert states == ["queued", "running", "done"]
        receipt = await someone.hears(f"{BASE}/status/a1")
        assert (receipt.qos, receipt.retain) == (1, False)


async def test_a_failure_is_an_answer(broker: Mosquitto, desk: MqttDesk) -> None:
    """It comes out of the outbox like any other."""
    desk.held = True
    async with sender(broker.port) as someone, serving(door(broker.port, desk)):
        await someone.publish(f"{BASE}/request/main/a1", "hi")
        await someone.hears(f"{BASE}/status/a1")
        desk.finish("mqtt", "", "a1", EngineRefused(400, "too long"))

        answer = await someone.hears_json(f"{BASE}/response/a1")
        assert answer["error"]["code"] == "engine_refused"


async def test_a_repeat_gets_the_stored_answer(broker: Mosquitto, desk: MqttDesk) -> None:
    """The same bytes, and it is not run again."""
    async with sender(broker.port) as someone, serving(door(broker.port, desk)):
        for _ in range(2):
            await someone.publish(f"{BASE}/request/main/a1", "hi")
        await someone.hears_times(f"{BASE}/response/a1", 2)

        first, again = (m.payload for m in someone.heard if "/response/" in str(m.topic))
        assert first == again
    assert len(desk.accepted) == 1


async def test_a_repeat_of_what_still_waits_is_told_so(broker: Mosquitto, desk: MqttDesk) -> None:
    """The receipt again, then one answer."""
    desk.held = True
    async with sender(broker.port) as someone, serving(door(broker.port, desk)):
        for _ in range(2):
            await someone.publish(f"{BASE}/request/main/a1", "hi")
        await someone.hears_times(f"{BASE}/status/a1", 2)

        states = [
            json.loads(m.payload)["state"] for m in someone.heard if "/status/" in str(m.topic)
        ]
        assert states == ["queued", "queued"]


async def test_the_operator_wakes_rests_and_cancels(broker: Mosquitto, desk: MqttDesk) -> None:
    """By topics of their own, with an empty payload or JSON."""
    desk.held = True
    async with sender(broker.port) as someone, serving(door(broker.port, desk)):
        await someone.publish(f"{BASE}/wake")
        await someone.publish(f"{BASE}/wake", '{"keep_warm_s": 90}')
        await someone.publish(f"{BASE}/rest")
        await someone.publish(f"{BASE}/rest", "off")
        await someone.publish(f"{BASE}/rest", '{"depth": "off"}')
        await someone.publish(f"{BASE}/request/main/a1", "hi")
        await someone.publish(f"{BASE}/cancel/a1")
        await someone.publish(f"{BASE}/cancel/unknown")

        told = await someone.hears_json(f"{BASE}/errors")
        assert told["id"] == "unknown"
    assert (desk.wakes, desk.rests) == ([0.0, 90.0], [None, "off", "off"])
    assert desk.cancelled == [("mqtt", "", "a1"), ("mqtt", "", "unknown")]
    assert not desk.refusals


async def test_a_newcomer_sees_how_it_is(broker: Mosquitto, desk: MqttDesk) -> None:
    """Availability, state and energy are retained; after a goodbye it is offline."""
    async with serving(door(broker.port, desk)):
        async with sender(broker.port) as somebody:
            await somebody.hears(f"{BASE}/energy")
        async with sender(broker.port) as newcomer:
            state = await newcomer.hears_json(f"{BASE}/state")
            assert (state["depth"], state["wattnap"]) == ("off", "0.0")
            assert (await newcomer.hears(f"{BASE}/availability")).payload == b"online"
            assert (await newcomer.hears_json(f"{BASE}/energy"))["today_j"] == 12.5
            assert all(m.retain for m in newcomer.heard)
    async with sender(broker.port) as newcomer:
        assert (await newcomer.hears(f"{BASE}/availability")).payload == b"offline"


async def test_it_says_goodbye_in_time(broker: Mosquitto, desk: MqttDesk) -> None:
    """Within 2 s, even while the desk does not finish what it is accepting."""
    desk.commits = asyncio.Semaphore(0)
    loop = asyncio.get_running_loop()
    async with sender(broker.port) as someone:
        async with serving(door(broker.port, desk)):
            await someone.publish(f"{BASE}/request", "hi")
            await desk.arrivals.get()
            stopping_s = loop.time()
        assert loop.time() - stopping_s < 2.0
        # The message was not acknowledged: the broker has it for the next start.
        desk.commits = None
        async with serving(door(broker.port, desk)):
            await someone.hears(f"{BASE}/response/made-1")
    assert len(desk.accepted) == 1


async def test_it_speaks_tls(mosquitto: str, tmp_path: Path, desk: MqttDesk) -> None:
    """A prompt and a long answer; a broker that cannot be trusted is not spoken to."""
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    subject = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    make = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject)
    process = await asyncio.create_subprocess_exec(
        *make, "-keyout", key, "-out", certificate, stderr=asyncio.subprocess.DEVNULL
    )
    assert await process.wait() == 0
    tls_port = free_port()
    more = f"listener {tls_port} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}\n"
    with Mosquitto(mosquitto, tmp_path / "secret", more) as broker:
        prompt = "word " * 40_000
        async with sender(broker.port) as someone:
            async with serving(door(tls_port, desk, tls=True, tls_ca_file=str(certificate))):
                await someone.publish(f"{BASE}/request/main/a1", prompt)
                answer = await someone.hears_json(f"{BASE}/response/a1")
                assert answer["text"] == prompt.strip()
            async with serving(door(tls_port, desk, tls=True)):
                await someone.publish(f"{BASE}/request/main/a2", "hi")
    assert [request.id for request, _, _ in desk.accepted] == ["a1"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
