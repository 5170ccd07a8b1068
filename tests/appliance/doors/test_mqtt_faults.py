"""What may break around the MQTT door: nothing accepted is lost, nothing is run twice."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiomqtt
import pytest

from appliance.errors import Interrupted
from tests.appliance.doors.mqtt_doors import BASE, door, serving
from tests.brokers import Mosquitto
from tests.fakes.mqtt_desk import MqttDesk
from tests.senders import sender

REQUEST = f"{BASE}/request"
ROOT = Path(__file__).parents[3]


@pytest.fixture
def desk() -> MqttDesk:
    return MqttDesk()


async def until(true: Callable[[], object], *, within_s: float = 10) -> None:
    """For what nothing tells us of: another program's files, the log."""
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def until_saved(broker: Mosquitto) -> None:
    """Return when a crash of the broker would lose nothing that it has now."""
    broker.saved()
    async with sender(broker.port) as someone:
        await someone.publish("x/save")
    await until(broker.saved)


async def until_handled(broker: Mosquitto) -> None:
    """Return when the broker has handled all that the door has sent so far."""
    async with sender(broker.port) as someone:
        await someone.publish(f"{BASE}/cancel/nobody")
        await someone.hears(f"{BASE}/errors")


@asynccontextmanager
async def accepted(desk: MqttDesk, count: int) -> AsyncIterator[None]:
    """Leave when the desk has been asked to accept that many more."""
    yield
    async with asyncio.timeout(20):
        for _ in range(count):
            await desk.arrivals.get()


async def test_nothing_is_acknowledged_before_the_commit(broker: Mosquitto, desk: MqttDesk) -> None:
    """A commit that ends after its connection is not acknowledged on the next one:
    the message comes again, marked as such, and is recognised without an id."""
    desk.commits = asyncio.Semaphore(0)
    async with serving(door(broker.port, desk)):
        async with accepted(desk, 1), sender(broker.port) as someone:
            await someone.publish(REQUEST, "hi")
        for _ in range(2):
            await until_handled(broker)
            async with accepted(desk, 1):
                broker.stop()
                broker.start()
            # An older copy is committed now. Were that acknowledged here, the message
            # would not come another time.
            desk.commits.release()
        await until_handled(broker)
        async with accepted(desk, 1):
            broker.stop()
            broker.start()
        async with sender(broker.port) as someone:
            for _ in range(2):
                desk.commits.release()
            await someone.hears(f"{BASE}/status/made-1")
            await until_handled(broker)
        desk.commits = None
        broker.stop()
        broker.start()
        await until_handled(broker)
        assert desk.arrivals.empty()  # acknowledged at last
    assert len(desk.accepted) == 1
    delivery = desk.accepted[0][2]
    assert delivery is not None
    assert not delivery.redelivered


async def test_what_comes_again_is_marked(broker: Mosquitto, desk: MqttDesk) -> None:
    """By the broker's own flag, under the same number."""
    desk.commits = asyncio.Semaphore(0)
    async with serving(door(broker.port, desk)):
        async with sender(broker.port) as someone:
            await someone.publish(REQUEST, "hi")
        _, first = await desk.arrivals.get()
        broker.stop()
        broker.start()
        _, again = await desk.arrivals.get()
        desk.commits = None

    assert first is not None
    assert again is not None
    assert (first.redelivered, again.redelivered) == (False, True)
    assert first.mid == again.mid


@pytest.mark.parametrize("v5", [True, False], ids=["v5", "v311"])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_broker_that_restarts_loses_nothing(
    broker: Mosquitto, desk: MqttDesk, how: signal.Signals, v5: bool
) -> None:
    """With prompts and answers under way: each is run once, and each answer arrives."""
    desk.held = True
    ids = [f"r{n}" for n in range(60)]
    asked = f"{BASE}/response/#"
    async with serving(door(broker.port, desk, version="5" if v5 else "3.1.1")):
        async with accepted(desk, 40), sender(broker.port, name="k", filters=(asked,)) as someone:
            for id in ids[:40]:
                await someone.publish(f"{REQUEST}/main/{id}", id)
        for id in ids[:20]:
            desk.finish("mqtt", "", id)
        await until(lambda: len(desk.delivered_numbers) == 20)
        await until_saved(broker)
        broker.stop(how)
        for id in ids[20:40]:
            desk.finish("mqtt", "", id)
        broker.start()
        desk.held = False
        async with sender(broker.port, name="k", filters=(asked,)) as someone:
            for id in ids[40:]:
                await someone.publish(f"{REQUEST}/main/{id}", id)
            heard = await someone.hears_all(60, f"{BASE}/response/")
            assert {topic.rsplit("/", 1)[1] for topic in heard} == set(ids)
    assert sorted(request.id or "" for request, _, _ in desk.accepted) == sorted(ids)
    assert set(desk.delivered_numbers) == set(range(1, 61))


async def test_a_frozen_broker_is_left_and_found_again(broker: Mosquitto, desk: MqttDesk) -> None:
    """It answers nothing and closes nothing; answers wait for it."""
    desk.held = True
    at_work = door(broker.port, desk, connect_timeout_s=0.5, publish_timeout_s=0.5)
    async with serving(at_work):
        async with accepted(desk, 1), sender(broker.port) as someone:
            await someone.publish(f"{REQUEST}/main/a1", "hi")
        broker.freeze()
        desk.finish("mqtt", "", "a1")
        await asyncio.sleep(1.5)  # long enough to give up, and to fail to connect
        broker.thaw()
        async with sender(broker.port) as someone:
            await someone.publish(f"{REQUEST}/main/a2", "hi")
            desk.held = False
            await someone.hears(f"{BASE}/status/a2")
    assert set(desk.delivered_numbers) >= {1}


async def test_a_frozen_broker_is_noticed_while_nothing_is_said(
    broker: Mosquitto, desk: MqttDesk, caplog: pytest.LogCaptureFixture
) -> None:
    """By its missing ping."""
    async with serving(door(broker.port, desk, keep_alive_s=5)):
        async with sender(broker.port) as someone:
            await someone.hears(f"{BASE}/energy")
        broker.freeze()
        await until(lambda: caplog.records, within_s=15)
        broker.thaw()

    assert "Keep alive timeout" in caplog.text


async def test_a_broker_that_is_not_there_yet(
    broker: Mosquitto, desk: MqttDesk, caplog: pytest.LogCaptureFixture
) -> None:
    """The door does not hold up the daemon, says so once, and serves when it comes."""
    caplog.set_level(logging.INFO)
    broker.stop()
    async with serving(door(broker.port, desk)):
        broker.start()
        async with sender(broker.port) as someone:
            await someone.hears(lambda m: m.payload == b"online")
            await someone.publish(REQUEST, "hi")
            await someone.hears(f"{BASE}/response/made-1")
    warnings = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "connected to the broker" in caplog.text


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 70, "a..b"])
async def test_a_host_that_is_none_ends_nothing(
    desk: MqttDesk, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The operator reads the reason in the log; the daemon goes on."""
    async with serving(door(1883, desk, host=host)) as task:
        assert not task.done()
    assert host in caplog.text


async def test_what_the_stopping_daemon_does_not_take_stays_at_the_broker(
    broker: Mosquitto, desk: MqttDesk
) -> None:
    """`interrupted` is not acknowledged; the next start serves it."""
    desk.fail_next = Interrupted()
    async with sender(broker.port) as someone:
        async with serving(door(broker.port, desk)), accepted(desk, 1):
            await someone.publish(REQUEST, "hi")
        async with serving(door(broker.port, desk)):
            await someone.hears(f"{BASE}/response/made-1")
        assert not someone.topics(f"{BASE}/errors")
    assert not desk.refusals


async def test_no_more_is_taken_than_can_be_held(hasty_broker: Mosquitto, desk: MqttDesk) -> None:
    """While commits are slow, the rest waits at the broker; then all of it is served."""
    desk.commits = asyncio.Semaphore(0)
    async with (
        sender(hasty_broker.port, filters=(f"{BASE}/response/#",)) as someone,
        serving(door(hasty_broker.port, desk)),
    ):
        async with accepted(desk, 256), asyncio.TaskGroup() as tasks:
            for number in range(600):
                tasks.create_task(someone.publish(f"{REQUEST}/main/q{number}", "hi", qos=0))
        await someone.publish(f"{BASE}/elsewhere")  # the broker has passed all of them on
        assert desk.arrivals.empty()
        for _ in range(600):
            desk.commits.release()
        await someone.hears_all(600, f"{BASE}/response/q")


async def test_two_with_one_name_are_told_apart_in_the_log(
    broker: Mosquitto, desk: MqttDesk, caplog: pytest.LogCaptureFixture
) -> None:
    """Mosquitto closes without a reason; when it goes on, the log asks the right question."""
    async with serving(door(broker.port, desk)), asyncio.timeout(20):
        while "call itself wattnap-home" not in caplog.text:
            async with (
                sender(broker.port) as someone,
                aiomqtt.Client("127.0.0.1", broker.port, identifier="wattnap-home"),
            ):
                await someone.hears(lambda m: m.payload == b"online" and not m.retain)


async def test_a_wrong_password_names_the_key_and_is_read_again(
    mosquitto: str, tmp_path: Path, desk: MqttDesk, caplog: pytest.LogCaptureFixture
) -> None:
    """The operator mends the file; nothing need be restarted."""
    users = tmp_path / "users"
    subprocess.run(["mosquitto_passwd", "-b", "-c", users, "me", "right"], check=True)
    password = tmp_path / "password"
    password.write_text("wrong\n")
    more = f"allow_anonymous false\npassword_file {users}\n"
    with Mosquitto(mosquitto, tmp_path / "closed", more) as broker:
        at_work = door(broker.port, desk, username="me", password_file=str(password))
        async with serving(at_work):
            assert "mqtt.password_file" in caplog.text
            password.write_text("right\n")
            caplog.set_level(logging.INFO)
            await until(lambda: "connected to the broker" in caplog.text)


ACCESS = """
allow_anonymous true
acl_file {folder}/../access
"""


async def test_an_answer_that_the_broker_refuses_holds_up_no_other(
    mosquitto: str, tmp_path: Path, desk: MqttDesk
) -> None:
    """It is told on `errors`, kept, and not tried in a hot loop."""
    (tmp_path / "access").write_text("topic read #\ntopic write wattnap/#\n")
    with Mosquitto(mosquitto, tmp_path / "strict", ACCESS) as broker:
        async with sender(broker.port) as someone, serving(door(broker.port, desk)):
            await someone.publish(f"{REQUEST}/main/a1", "hi", ResponseTopic="x/wattnap/1")
            told = await someone.hears_json(f"{BASE}/errors")
            assert (told["id"], told["error"]["code"]) == ("a1", "not_taken")
            await someone.publish(f"{REQUEST}/main/a2", "hi")
            await someone.hears(f"{BASE}/response/a2")
            assert len(someone.topics(f"{BASE}/errors")) == 1
    assert desk.delivered_numbers == [2]


async def test_an_error_that_the_broker_refuses_is_told_elsewhere(
    mosquitto: str, tmp_path: Path, desk: MqttDesk
) -> None:
    """Mosquitto 2.0.11 cuts us over it before we can acknowledge: the message comes again."""
    (tmp_path / "access").write_text("topic read #\ntopic write wattnap/#\n")
    with Mosquitto(mosquitto, tmp_path / "strict", ACCESS) as broker:
        async with sender(broker.port) as someone, serving(door(broker.port, desk)):
            await someone.publish(REQUEST, "{", ResponseTopic="x/wattnap/1")
            told = await someone.hears_json(f"{BASE}/errors")
            assert told["error"]["code"] == "bad_request"
            await someone.publish(f"{REQUEST}/main/a2", "hi")
            await someone.hears(f"{BASE}/response/a2")
            await until_handled(broker)
            assert someone.topics(f"{BASE}/errors").count(f"{BASE}/errors") <= 3
    assert len(desk.refusals) <= 3


async def test_an_answer_too_large_for_the_broker_is_not_sent(
    mosquitto: str, tmp_path: Path, desk: MqttDesk
) -> None:
    """It would cut the connection, again and again."""
    with Mosquitto(mosquitto, tmp_path / "small", "max_packet_size 20000\n") as broker:
        async with sender(broker.port) as someone, serving(door(broker.port, desk)):
            await someone.publish(f"{REQUEST}/main/a1", "x " * 9000)
            told = await someone.hears_json(f"{BASE}/errors")
            assert told["error"]["code"] == "not_taken"
            await someone.publish(f"{REQUEST}/main/a2", "hi")
            await someone.hears(f"{BASE}/response/a2")
    assert desk.sessions_lost == 1


@contextmanager
def child(port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.appliance.doors.mqtt_child", str(port)]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_a_daemon_that_is_killed_is_offline(broker: Mosquitto) -> None:
    """The broker says so, and keeps saying it to whoever comes."""
    async with sender(broker.port) as someone:
        with child(broker.port) as process:
            await someone.hears(lambda m: m.payload == b"online")
            process.kill()
        told = await someone.hears(lambda m: m.payload == b"offline")
        assert str(told.topic) == f"{BASE}/availability"


async def test_it_sleeps_while_nothing_happens(broker: Mosquitto) -> None:
    """At most one voluntary context switch per second, in all threads, over 10 s."""

    def switches(pid: int) -> int:
        return sum(
            int(line.split()[1])
            for status in Path(f"/proc/{pid}/task").glob("*/status")
            for line in status.read_text().splitlines()
            if line.startswith("voluntary_ctxt_switches")
        )

    async with sender(broker.port) as someone:
        with child(broker.port) as process:
            await someone.hears(f"{BASE}/energy")
            await asyncio.sleep(1)
            before = switches(process.pid)
            await asyncio.sleep(10)
            per_s = (switches(process.pid) - before) / 10
    assert per_s <= 1.0


async def test_five_hundred_prompts_at_once(hasty_broker: Mosquitto, desk: MqttDesk) -> None:
    """A sanity check of the throughput: all answered, each once, in seconds."""
    port = hasty_broker.port
    async with (
        sender(port, filters=(f"{BASE}/response/#",)) as someone,
        serving(door(port, desk)),
    ):
        async with asyncio.TaskGroup() as tasks:
            for number in range(500):
                tasks.create_task(someone.publish(f"{REQUEST}/main/r{number}", "hi"))
        heard = await someone.hears_all(500, f"{BASE}/response/", within_s=10)
    assert len(heard) == 500
    assert len(desk.accepted) == 500
    assert len(desk.settled_mids) > 400
