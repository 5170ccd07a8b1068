"""What the training data promise: closed sets, one spelling, nothing leaking into the test."""

import json
from pathlib import Path
from random import Random

import pytest

from tools.demo_model import spoken
from tools.demo_model.actions import ACTIONS, AREAS, DEVICES, SCENES, Action, parse_action, schema
from tools.demo_model.grammar import Grammar
from tools.demo_model.templates import DATA, expand, load, parse

SHIPPED = Path(__file__).parents[2] / "appliance" / "demo_model"
FOLDS = ("train", "validation", "test")


def free_hand(name: str) -> list[tuple[str, Action]]:
    """The commands and actions of a hand-written set."""
    lines = (DATA / f"freehand_{name}.txt").read_text().splitlines()
    pairs = [line.rsplit(" | ", 1) for line in lines if line and not line.startswith("#")]
    return [(command, parse_action(words)) for command, words in pairs]


def draws(seed: int) -> list[tuple[str, Action]]:
    """Five thousand drawings of one grammar."""
    source = Grammar(seed)
    return [source.draw() for _ in range(5000)]


def test_the_line_is_compact_and_in_order() -> None:
    """The answer is the one line that the issue's example shows."""
    line = Action("set", "light", "bedroom", 30).to_json()

    assert line == '{"action":"set","device":"light","area":"bedroom","value":30}'


def test_a_seed_fixes_the_data() -> None:
    """Two grammars with one seed say the same, with another seed something else."""
    one, same, other = (Grammar(seed) for seed in (1, 1, 2))
    first, second, third = ([g.draw() for _ in range(50)] for g in (one, same, other))

    assert first == second
    assert first != third


def test_every_drawing_is_in_the_closed_sets() -> None:
    """No action, device, area or value outside the issue's lists, and no slot left open."""
    for sentence, action in draws(3):
        assert action.action in ACTIONS
        assert action.device in DEVICES
        assert action.area in AREAS
        assert (
            action.value is None or isinstance(action.value, int | float) or action.value in SCENES
        )
        assert "{" not in sentence


def test_values_keep_their_units_bounds() -> None:
    """Percent 0 to 100, degrees 5 to 36, seconds 1 to a day and a bit."""
    bounds = {"light": (0, 100), "blinds": (0, 100), "fan": (0, 100), "heating": (5, 36)}
    bounds["timer"] = (1, 90_000)
    for _, action in draws(4):
        if isinstance(action.value, int | float):
            low, high = bounds[action.device]

            assert low <= action.value <= high


def test_the_garage_door_is_a_device_of_its_own() -> None:
    """No drawing calls it a door whose room is the garage."""
    drawn = {(a.device, a.area) for _, a in draws(5)}

    assert ("door", "garage") not in drawn
    assert {area for device, area in drawn if device == "garage"} == {"garage"}


def test_folds_are_disjoint() -> None:
    """A template belongs to one fold, and each fold has enough of them to mean something."""
    texts = {fold: {t.text for t in load() if t.fold == fold} for fold in FOLDS}

    assert not texts["train"] & texts["validation"]
    assert not texts["train"] & texts["test"]
    assert all(len(texts[fold]) > 100 for fold in FOLDS)


@pytest.mark.parametrize("name", ["dev", "second", "final", "fresh", "strangers"])
def test_hand_written_sets_are_well_formed(name: str) -> None:
    """Every line reads as a command and an action, and no command stands twice."""
    cases = free_hand(name)

    assert len({command for command, _ in cases}) == len(cases)


def test_every_number_occurs_in_training() -> None:
    """No percentage, no whole temperature and no minute up to two hours is withheld."""
    rng = Random(6)
    percents = {spoken.percent("light", True, rng)[1] for _ in range(20_000)}
    degrees = {spoken.degrees(True, rng)[1] for _ in range(20_000)}
    seconds = {spoken.duration(rng)[1] for _ in range(60_000)}

    assert percents >= set(range(101))
    assert degrees >= set(range(5, 36))
    assert seconds >= {60 * minute for minute in range(1, 121)}


@pytest.mark.parametrize(
    ("number", "said"), [(0, "zero"), (13, "thirteen"), (40, "forty"), (100, "hundred")]
)
def test_number_words(number: int, said: str) -> None:
    """Numbers are spelled as English spells them."""
    assert said in spoken.words(number, Random(0))


def test_choices_nest_and_may_be_empty() -> None:
    """(a|b) draws one branch; an unbalanced template is an error when it is read."""
    drawn = {expand(parse("x (a (b|c)|)"), Random(seed)) for seed in range(50)}

    assert drawn == {"x a b", "x a c", "x "}
    with pytest.raises(ValueError, match="unbalanced"):
        parse("x (a|b")


def test_the_shipped_schema_is_the_grammars() -> None:
    """Callers constrain answers to exactly what the model was trained to say."""
    shipped = json.loads((SHIPPED / "action.schema.json").read_text())

    assert shipped == schema()
    assert list(shipped["properties"]) == ["action", "device", "area", "value"]


def test_the_model_fits_the_wheel() -> None:
    """Everything shipped is at most 8 MB."""
    size = sum(path.stat().st_size for path in SHIPPED.iterdir())

    assert size <= 8_000_000


def test_golden_answers_cover_every_action_and_device() -> None:
    """The engine tests ask one of each."""
    pairs = json.loads((Path(__file__).parent / "golden.json").read_text())

    assert {action["action"] for _, action in pairs} >= set(ACTIONS)
    assert {action["device"] for _, action in pairs} >= set(DEVICES)
