"""What somebody is told whose configuration or request is not taken."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import Raw

from appliance.config import Config, load
from appliance.config_example import keys, tables
from appliance.doors import socket_lines
from appliance.errors import BadRequest, ConfigError
from appliance.request import CHAT_PATH, parse

KEYS = [("", key.name) for key in keys(Config)] + [
    (table, key.name) for table, section in tables() for key in keys(section)
]


def refused(folder: Path, text: str) -> str:
    """By the configuration; without the file's name and the remedy."""
    file = folder / "wattnap.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load(file)
    told = str(raised.value).removeprefix(f"{file}: ")
    return told.removesuffix("; `wattnap config --example` shows all")


def refused_request(payload: str, path: str = "") -> BadRequest:
    with pytest.raises(BadRequest) as raised:
        parse(payload.encode(), door="socket", limit_bytes=10_000, path=path)
    return raised.value


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('idle_timeout_s = "ten"', 'seconds, 0 to 1e9, which is for ever), got "ten"'),
        ('idle_timeout_s = "600"', '), got "600"; write 600'),
        ("idle_timeout_s = -1", "), got -1"),
        ('policy = "lazy"', 'expected "always_on", "breakeven", "fixed" or "learned", got "lazy"'),
        ('policy = ["fixed"]', ", got a list"),
        ('rest = "23:00-06:00"', 'a list of text, got "23:00-06:00"; write ["23:00-06:00"]'),
        ("rest = [5]", 'rest[0]: expected text in quotes, got 5; write "5"'),
        ("bake = 1", "expected true or false, got 1; write true"),
        ('max_wakes_per_hour = "many"', "expected a whole number (0 to 3600)"),
        ("max_wakes_per_hour = 20.0", "; write 20"),
        ('rest = ["at night"]', """'at night' is not like "06:00-22:00\""""),
    ],
)
def test_a_wrong_value(tmp_path: Path, line: str, told: str) -> None:
    """The key as it was written, what it may be, what it is, and what was meant."""
    message = refused(tmp_path, f"[power]\n{line}\n")

    assert message.startswith(f"power.{line.split(maxsplit=1)[0]}")
    assert told in message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[mqtt]\nversion = 5", 'mqtt.version: expected "3.1.1" or "5", got 5; write "5"'),
        ("[mqtt]\nport = 70000", "mqtt.port: expected a whole number (1 to 65535), got 70000"),
        ("[socket]\nmode = 660", 'three octal digits, e.g. "0660", got 660; write "660"'),
        (
            "[engine]\nmax_running = 0",
            'engine.max_running: expected a whole number (1 or more) or "auto", got 0',
        ),
        ("[engine]\nenv = { A = 1 }", 'engine.env.A: expected text in quotes, got 1; write "1"'),
        ("[energy]\ngain = { wall = 1 }", 'energy.gain: expected "cpu_time", '),
        (
            '[energy]\noffset_w = { nvml = "x" }',
            'energy.offset_w.nvml: expected a number (watts, -10000 to 10000), got "x"',
        ),
        ('[tariff]\nper_kwh = { "00:00-24:00" = "x" }', 'tariff.per_kwh."00:00-24:00": '),
        ('name = "a b"', "name: expected 1 to 64 of the characters A-Z a-z 0-9 . _ -, got "),
        (f'name = "{"x" * 99}"', "got 99 characters, "),
        (f"[mqtt]\nport = 0x{'f' * 5000}", "(1 to 65535), got a number of more than 64 bits"),
        ("power = 1", "power: expected a table, got 1"),
        ("[power]\npolicy = lazy", "(at line 2, column 10); text stands in quotes"),
        ("[power", "not TOML: "),
    ],
)
def test_wrong_values_of_other_kinds(tmp_path: Path, text: str, told: str) -> None:
    """Words, numbers, tables; and a file that is no TOML."""
    assert told in refused(tmp_path, text)


@pytest.mark.parametrize(("table", "key"), KEYS)
def test_every_key_is_named(tmp_path: Path, table: str, key: str) -> None:
    """Whichever it is, no word of the validator's is passed on. No key takes a date."""
    head, path = (f"[{table}]\n", f"{table}.{key}") if table else ("", key)
    message = refused(tmp_path, f"{head}{key} = 1979-05-27")

    assert message.startswith(f"{path}: expected ")
    assert message.endswith(", got 1979-05-27")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "[power]\nidle_timeout = 5",
            "`power.idle_timeout` (did you mean `power.idle_timeout_s`?)",
        ),
        ("idle_timeout = 5", "`idle_timeout` (did you mean `power.idle_timeout_s`?)"),
        ("idle_timeout_s = 5", "`idle_timeout_s` (there is one in [power])"),
        ('[power]\ntopic = "x"', "`power.topic` (there is one in [defer])"),
        ("[power]\nhost = 5", "`power.host` (there is one in [mqtt])"),
        ("[inbox]\nenv = 5", "`inbox.env` (there is one in [engine])"),
        ("[mqtt]\nstate_dir = 5", "(there is one at the top of the file, before the first table)"),
        ("[powr]\npolicy = 5", "`powr` (did you mean `power`?)"),
        ("zzz = 5", "`zzz`"),
    ],
)
def test_an_unknown_key(tmp_path: Path, text: str, told: str) -> None:
    """The nearest one that there is, or where there is one of that name."""
    message = refused(tmp_path, text)

    assert message.startswith("no such setting: `")
    assert message.endswith(told)


@pytest.mark.parametrize(
    ("payload", "field", "told"),
    [
        ('{"prompt": ""}', "prompt", 'expected text that is not empty, got ""'),
        ('{"prompt": ["x"]}', "prompt", "expected text in quotes, got a list"),
        ('{"messages": []}', "messages", "a list of objects, not empty, got an empty list"),
        ('{"messages": [{}]}', "messages[0].role", "it is missing; expected text"),
        ('{"prompt": "x", "max_tokens": 0}', "max_tokens", "(tokens, 1 to 1000000), got 0"),
        ('{"prompt": "x", "repetition_penalty": 0}', "repetition_penalty", "(more than 0), got 0"),
        ('{"prompt": "x", "n": 2}', "n", "expected 1, got 2"),
        ('{"prompt": "x", "model": "a b"}', "model", "1 to 64 of the characters"),
        ('{"prompt": "x", "wattnap": {"class": 5}}', "wattnap.class", '"batch" or "interactive"'),
        (
            '{"prompt": "x", "wattnap": {"response_topic": ""}}',
            "wattnap.response_topic",
            "1 to 1024",
        ),
        ('{"prompt": "x", "max_token": 5}', "max_token", "(did you mean `max_tokens`?)"),
        ('{"prompt": "x", "priority": 5}', "priority", "(there is one in `wattnap`)"),
        ('{"prompt": "x", "wattnap": {"stop": 5}}', "wattnap.stop", "(there is one at the top)"),
    ],
)
def test_a_wrong_field(payload: str, field: str, told: str) -> None:
    """Its path, in the message and for who asks the error."""
    error = refused_request(payload)

    assert error.field == field
    assert field in str(error)
    assert told in str(error)


def test_a_missing_field() -> None:
    """Is named like a wrong one."""
    error = refused_request("{}", CHAT_PATH)

    assert (error.field, str(error)[:24]) == ("messages", "messages: it is missing;")


@pytest.mark.parametrize("messages", ['"a secret"', '["a secret"]', '{"a": "a secret"}'])
def test_no_prompt_is_quoted(messages: str) -> None:
    """A refusal goes into the log."""
    assert "secret" not in str(refused_request(f'{{"messages": {messages}}}'))


@pytest.mark.parametrize(
    ("line", "field", "told"),
    [
        ('{"op": "ask", "request": "x", "id": "a b"}', "id", 'A-Z a-z 0-9 . _ : @ = -, got "a b"'),
        ('{"op": "dance"}', "op", '"wake" or "why", got "dance"'),
        ("{}", "op", 'it is missing; expected "answer", "ask", '),
        ('{"op": "ask"}', "request", "it is missing; expected text in quotes or an object"),
        ('{"op": "ask", "requst": "x"}', "requst", "(did you mean `request`?)"),
        ("5", None, "expected an object, got 5"),
        ('{"op": "status", "a": 1', None, "not JSON: "),
        ('{"op": 5', None, "not JSON: "),
        ('{"op": "wake", "keep_warm_s": 1e400}', None, "not JSON: Number out of range"),
    ],
)
def test_a_wrong_line(line: str, field: str | None, told: str) -> None:
    """The socket's, which the command line speaks, are told the same way."""
    with pytest.raises(BadRequest) as raised:
        socket_lines.understand(line.encode())

    assert raised.value.field == field
    assert told in str(raised.value)


def test_a_request_that_is_none() -> None:
    """It is text or an object."""
    with pytest.raises(BadRequest, match="request: expected text in quotes or an object, got null"):
        socket_lines.payload(Raw(b"null"))
