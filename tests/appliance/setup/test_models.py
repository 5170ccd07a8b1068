"""Models in versions: copied with digests, checked, chosen, gone back to."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import ModelUnusable
from appliance.home_action import MODEL
from appliance.setup.models import SUMS, Shelf, in_the_box, served


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "models")


def make_model(folder: Path, weights: bytes = b"weights") -> Path:
    (folder / "parts").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "parts/model.safetensors").write_bytes(weights)
    (folder / ".cache").mkdir()
    (folder / ".cache/left").write_text("of a download")
    return folder


def test_added_with_digests(shelf: Shelf, tmp_path: Path) -> None:
    """Its files are copied, with their times, and what a download has left is not."""
    source = make_model(tmp_path / "small")
    id = shelf.add(source)
    made = shelf.folder / id.replace("@", "/")

    assert [model.id for model in shelf.list()] == [id]
    assert sorted(str(each.relative_to(made)) for each in made.rglob("*")) == [
        SUMS,
        "config.json",
        "parts",
        "parts/model.safetensors",
    ]
    weights = "parts/model.safetensors"
    assert (made / weights).stat().st_mtime_ns == (source / weights).stat().st_mtime_ns
    shelf.check(id)


def test_the_same_files_are_one_version(shelf: Shelf, tmp_path: Path) -> None:
    """Others are another, under the same name."""
    first = shelf.add(make_model(tmp_path / "a/small"))
    again = shelf.add(make_model(tmp_path / "b/small"))
    other = shelf.add(make_model(tmp_path / "c/small", b"others"))

    assert first == again
    assert {model.id for model in shelf.list()} == {first, other}
    with pytest.raises(ModelUnusable, match=r"may be small@.*; name one"):
        shelf.find("small")
    assert shelf.find(other[:10]) == other


def test_digests_that_come_with_it_must_be_true(shelf: Shelf, tmp_path: Path) -> None:
    """As `sha256sum` writes them; else nothing is added."""
    source = make_model(tmp_path / "small")
    known = shelf.add(source)
    sums = (shelf.folder / known.replace("@", "/") / SUMS).read_text()
    (source / SUMS).write_text(sums.replace("  ", " *"))

    assert shelf.add(source) == known

    (source / "config.json").write_text("{ }")
    with pytest.raises(ModelUnusable, match=r"config\.json is not what its digest says"):
        shelf.add(source, "broken")
    (source / "config.json").write_text("{}")
    (source / "parts/model.safetensors").rename(source / "parts/x.safetensors")
    with pytest.raises(ModelUnusable, match="is missing"):
        shelf.add(source, "broken")
    assert [model.id for model in shelf.list()] == [known]


def test_damage_is_seen(shelf: Shelf, tmp_path: Path) -> None:
    """One byte in the weights, and it is not used."""
    id = shelf.add(make_model(tmp_path / "small"))
    (shelf.folder / id.replace("@", "/") / "parts/model.safetensors").write_bytes(b"wEights")

    with pytest.raises(ModelUnusable, match=r"model\.safetensors is not what its digest says"):
        shelf.check(id)


def test_a_folder_that_is_not_there(shelf: Shelf, tmp_path: Path) -> None:
    """Is called that."""
    with pytest.raises(ModelUnusable, match="nowhere: no such folder"):
        shelf.add(tmp_path / "nowhere")


@pytest.mark.parametrize("lacking", ["config.json", "parts/model.safetensors"])
def test_what_is_no_model(shelf: Shelf, tmp_path: Path, lacking: str) -> None:
    """Without configuration, or with weights of another format, which may hold programs."""
    source = make_model(tmp_path / "small")
    (source / lacking).rename(source / "other.bin")

    with pytest.raises(ModelUnusable):
        shelf.add(source)
    assert shelf.list() == []


@pytest.mark.parametrize("name", ["..", "a/b", "a@b"])
def test_what_is_no_name(shelf: Shelf, tmp_path: Path, name: str) -> None:
    """It would lead out of the folder."""
    with pytest.raises(ModelUnusable, match="no name"):
        shelf.add(make_model(tmp_path / "small"), name)


def test_current_and_previous(shelf: Shelf, tmp_path: Path) -> None:
    """What was current is previous; both are kept from removal."""
    one = shelf.add(make_model(tmp_path / "one"))
    two = shelf.add(make_model(tmp_path / "two"))
    shelf.use(one)
    shelf.use(two)
    shelf.use(two)

    assert (shelf.current(), shelf.previous()) == (two, one)
    assert [(model.id, model.mark) for model in shelf.list()] == [
        (one, "previous"),
        (two, "current"),
    ]
    for id in (one, two):
        with pytest.raises(ModelUnusable, match="in use"):
            shelf.remove(id)
    shelf.use(one)
    three = shelf.add(make_model(tmp_path / "three"))
    shelf.use(three)
    shelf.remove(two)

    assert [model.name for model in shelf.list()] == ["one", "three"]


def test_what_is_served(shelf: Shelf, tmp_path: Path) -> None:
    """The configured one; else the current one, by a path that stays; else the one in the box."""
    assert served("", shelf.folder) == str(MODEL)
    assert in_the_box(served("", shelf.folder))

    shelf.use(shelf.add(make_model(tmp_path / "one")))

    assert served("", shelf.folder) == str(shelf.folder / "current")
    assert (shelf.folder / "current/config.json").exists()
    assert served("mine", shelf.folder) == "mine"
    shelf.leave()
    assert in_the_box(served("", shelf.folder))
