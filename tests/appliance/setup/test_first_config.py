"""The first configuration, from the broker's address that install.sh was given."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from appliance.config import Config, Mqtt
from appliance.setup.first_config import (
    NEAR,
    PASSWORD,
    BadBroker,
    Broker,
    is_near,
    main,
    read_broker,
    settings,
)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("none", Mqtt(enabled=False)),
        ("mqtt://192.168.7.2", Mqtt(host="192.168.7.2")),
        ("mqtt://[::1]:1884", Mqtt(host="::1", port=1884)),
        (
            'mqtts://u"ser:p%40ss@broker.example',
            Mqtt(
                host="broker.example",
                port=8883,
                tls=True,
                username='u"ser',
                password_file=PASSWORD,
            ),
        ),
    ],
)
def test_loads_to_what_was_asked_for(url: str, expected: Mqtt) -> None:
    """The daemon reads it as it was meant, and all else has its default."""
    read = msgspec.toml.decode(settings(read_broker(url)), type=Config)

    assert read == Config(mqtt=expected)


@pytest.mark.parametrize("url", ["broker", "http://x", "mqtt://", "mqtt://x:y", "mqtt://x/path"])
def test_what_names_no_broker(url: str) -> None:
    """It is refused, with what was expected."""
    with pytest.raises(BadBroker):
        read_broker(url)


def test_password_is_in_a_file_of_its_own(tmp_path: Path) -> None:
    """Beside the configuration, which everybody may read, and only if there is one."""
    status = main(["--broker", "mqtt://me:secret@127.0.0.1", str(tmp_path / "with")])

    assert status == 0
    assert (tmp_path / "with/mqtt-password").read_text() == "secret\n"
    assert "secret" not in (tmp_path / "with/wattnap.toml").read_text()
    assert (tmp_path / "with").stat().st_mode & 0o777 == 0o700

    main([str(tmp_path / "without")])

    assert [file.name for file in (tmp_path / "without").iterdir()] == ["wattnap.toml"]


def test_network_is_opened_only_for_a_broker_that_is_far(tmp_path: Path) -> None:
    """The unit reaches private networks; for another address a drop-in is written."""
    for host, expected in {"10.1.2.3": False, "198.51.100.1": True, "8.8.8.8": True}.items():
        main(["--broker", f"mqtt://{host}", str(tmp_path / host)])

        assert (tmp_path / host / "broker.conf").exists() == expected


def test_near_is_what_the_unit_allows() -> None:
    """systemd's words for the first four are localhost and link-local."""
    unit = (Path(__file__).parents[3] / "systemd/wattnap.service").read_text()
    (told,) = re.findall(r"^IPAddressAllow=(.*)$", unit, re.MULTILINE)

    assert told.split() == ["localhost", "link-local", *(str(each) for each in NEAR[4:])]


def test_where_a_host_is() -> None:
    """A name that nobody knows counts as far: the connection must not fail for that."""
    assert is_near("127.0.0.1")
    assert is_near("fe80::1")
    assert not is_near("host.invalid")


def test_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the status of wrong usage, and nothing made."""
    status = main(["--broker", "mosquito", str(tmp_path / "x")])

    assert status == 64
    assert "--broker: expected mosquitto, none or mqtt" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_name_with_odd_characters() -> None:
    """A JSON string is a TOML string, but for one character."""
    odd = Broker(host="h", port=1, tls=False, username="\x7f\x01é\\")
    read = msgspec.toml.decode(settings(odd), type=Config)

    assert read.mqtt.username == "\x7f\x01é\\"
