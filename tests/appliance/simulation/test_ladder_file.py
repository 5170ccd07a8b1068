"""Price lists of ladders."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import DataUnusable
from appliance.simulation.ladder_file import read, shipped
from policies.envelope import envelope
from policies.ladder import Depth, Rung


def test_a_file_is_a_ladder(tmp_path: Path) -> None:
    """What is not said costs nothing."""
    path = tmp_path / "box.toml"
    path.write_text(
        'title = "box"\n[[rung]]\ndepth = "awake"\npower_w = 40\n'
        '[[rung]]\ndepth = "off"\npower_w = 1.5\nenter_s = 2\nenter_j = 3\nwake_s = 4\nwake_j = 5\n'
    )
    found = read(str(path))

    assert (found.name, found.title, found.as_shipped_w) == (str(path), "box", None)
    assert found.ladder == (
        Rung(depth=Depth.AWAKE, power_w=40.0, source="box"),
        Rung(depth=Depth.OFF, power_w=1.5, enter_s=2, enter_j=3, wake_s=4, wake_j=5, source="box"),
    )


AWAKE = '[[rung]]\ndepth = "awake"\npower_w = 4\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "rung"),
        ("rung = [", "box.toml"),
        ('[[rung]]\ndepth = "off"\npower_w = 4\n', "go from awake down"),
        (AWAKE + '[[rung]]\ndepth = "off"\npower_w = 4\n' * 2, "go from awake down"),
        (AWAKE + '[[rung]]\ndepth = "asleep"\npower_w = 4\n', "asleep"),
        (AWAKE + '[[rung]]\ndepth = "off"\npower_w = -4\n', "power_w"),
        (AWAKE + '[[rung]]\ndepth = "off"\npower_w = nan\n', "power_w"),
        (AWAKE + '[[rung]]\ndepth = "off"\npower_w = inf\n', "power_w"),
        (AWAKE + "watts = 3\n", "watts"),
        (AWAKE + "wake_s = 3\n", "others' wakes"),
        ("as_shipped_w = 3\n" + AWAKE, "as_shipped_w is less"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str, told: str) -> None:
    """With its name and what is wrong."""
    path = tmp_path / "box.toml"
    path.write_text(text)
    with pytest.raises(DataUnusable, match=told):
        read(str(path))


def test_a_name_that_is_neither_is_told_what_there_is() -> None:
    """The shipped ones are named."""
    with pytest.raises(DataUnusable, match=r"No such file.*desktop, h200, orin"):
        read("h100")


def test_those_that_come_with_it() -> None:
    """The measured one saves by its boost alone; the others say that they are not measured."""
    h200 = read("h200")

    assert shipped() == ["desktop", "h200", "orin"]
    assert {rung.power_w for rung in h200.ladder} == {78.4}
    assert [rung.depth for rung in h200.ladder] == list(Depth)
    assert h200.as_shipped_w == 120.0
    for name in ("desktop", "orin"):
        assert "literature" in read(name).title
    for name in shipped():
        assert envelope(read(name).ladder, 100.0).bound < 2.1
