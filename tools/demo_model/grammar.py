# ruff: noqa: SIM905 - word lists read better as prose
"""A home command and its action, drawn at random: the training data.

`Grammar(seed, ...)` is an endless, reproducible source. A drawing picks what is wanted, then a
template that can say it, fills the slots, frames it, and spoils it.
"""

from collections import defaultdict
from collections.abc import Sequence
from random import Random

from tools.demo_model import frames, lexicon, spoken
from tools.demo_model.actions import NOTHING, ROOMS, SCENES, Action
from tools.demo_model.noise import spoil
from tools.demo_model.phrases import Phrases
from tools.demo_model.templates import DATA, Template, expand, load

# How often each kind is drawn. Wide kinds get more; the figures are ours, tuned on the dev set.
WEIGHTS = {
    ("turn_on", "light"): 6.0, ("turn_off", "light"): 6.0, ("turn_on", "heating"): 4.0,
    ("turn_off", "heating"): 2.5, ("turn_on", "tv"): 2.5, ("turn_off", "tv"): 2.5,
    ("turn_on", "fan"): 3.5, ("turn_off", "fan"): 2.5, ("turn_on", "socket"): 2.5,
    ("turn_off", "socket"): 2.5, ("open", "blinds"): 3.5, ("close", "blinds"): 4.0,
    ("open", "door"): 1.2, ("close", "door"): 1.2, ("open", "garage"): 2.0,
    ("close", "garage"): 2.0, ("lock", "door"): 2.5, ("unlock", "door"): 2.5,
    ("lock", "garage"): 0.7, ("unlock", "garage"): 0.7, ("query", "light"): 2.5,
    ("query", "heating"): 2.8, ("query", "tv"): 1.4, ("query", "fan"): 1.4,
    ("query", "socket"): 1.4, ("query", "blinds"): 1.7, ("query", "door"): 2.3,
    ("query", "garage"): 1.7, ("query", "timer"): 2.2, ("set", "light"): 6.0,
    ("set", "blinds"): 5.0, ("set", "heating"): 6.5, ("set", "fan"): 0.5, ("set", "timer"): 8.5,
    ("turn_off", "timer"): 2.8, ("set", "scene"): 7.0, ("none", "none"): 22.0,
}  # fmt: skip
# A complaint that may stand before an order for the same thing: "it's freezing, set ... to 22".
COMPLAINT_OF = {
    ("turn_on", "light"): ("turn_on", "light"), ("set", "light"): ("turn_on", "light"),
    ("turn_on", "heating"): ("turn_on", "heating"), ("set", "heating"): ("turn_on", "heating"),
    ("turn_on", "fan"): ("turn_on", "fan"), ("close", "blinds"): ("close", "blinds"),
    ("set", "blinds"): ("close", "blinds"),
}  # fmt: skip
COMPLAINT_STARTS: tuple[str, ...] = (
    "(it's",
    "it's",
    "it feels",
    "i can't see",
    "i'm (",
    "too (",
    "so ",
    "i cannot see",
)
COMPLAINT_STARTS += (
    "the sun is",
    "there's (too",
    "why is it",
    "my (feet",
    "brr",
    "we're (",
    "it got",
)
QUESTION_WORDS = frozenset(
    (
        "is are was were did do does have has can could would will should shall may might any "
        "how what what's whats where when who who's why which isn't aren't how's where's"
    ).split()
)
CORRECTIONS: tuple[str, ...] = (
    "no wait,",
    "no,",
    "sorry, i mean",
    "i mean",
    "actually",
    "wait, make that",
    "er no,",
)
CORRECTIONS += (
    "no sorry,",
    "oops,",
    "scratch that,",
    "correction:",
    "or rather",
    "no no,",
    "not that,",
)


class Grammar:
    """An endless source of (sentence, action).

    seed     equal seeds give equal sequences
    fold     whose templates to draw from: "train", "validation" or "test"
    noisy    whether sentences are spoiled (typos, case, punctuation)
    """

    def __init__(self, seed: int, *, fold: str = "train", noisy: bool = True) -> None:
        self._rng = Random(seed)
        self._phrases = Phrases(self._rng)
        self._noisy = noisy
        self._by_kind: dict[tuple[str, str], list[Template]] = defaultdict(list)
        for template in load():
            if template.fold == fold:
                self._by_kind[template.action, template.device].append(template)
        self._complaints = {
            kind: [t for t in self._by_kind[source] if t.text.startswith(COMPLAINT_STARTS)]
            for kind, source in COMPLAINT_OF.items()
        }
        self._kinds = [kind for kind in WEIGHTS if self._by_kind[kind]]
        self._weights = [WEIGHTS[kind] for kind in self._kinds]
        lines = (DATA / "distractors.txt").read_text().splitlines()
        self._distractors = [line for line in lines if line and not line.startswith("#")]

    def draw(self) -> tuple[str, Action]:
        """The next sentence and what it asks for."""
        rng = self._rng
        kind = rng.choices(self._kinds, self._weights)[0]
        template = self._pick(kind)
        sentence, action = self._say(template)
        if action is not NOTHING:
            sentence = self._elaborate(sentence, action, kind, template)
        elif rng.random() < 0.12:
            # Every distractor alone asks for nothing; so do two of them.
            sentence = rng.choice(self._distractors)
            if rng.random() < 0.3:
                sentence += rng.choice((", ", " and ", ". ")) + rng.choice(self._distractors)
        question = action.action == "query" or sentence.split(" ", 1)[0] in QUESTION_WORDS
        if not self._noisy:
            return sentence, action
        return spoil(sentence, question, rng), action

    def _pick(self, kind: tuple[str, str]) -> Template:
        """A template of this kind. Scenes are drawn evenly first: away has the most templates."""
        templates = self._by_kind[kind]
        if kind == ("set", "scene"):
            scene = self._rng.choice(SCENES)
            templates = [t for t in templates if t.fixed == scene] or templates
        if kind[1] in ("door", "light", "heating") and self._rng.random() < 0.06:
            templates = [t for t in templates if t.fixed] or templates
        return self._rng.choice(templates)

    def _area(self, template: Template, text: str) -> str:  # noqa: PLR0911 - a table
        """A room that `text`, a drawing of `template`, has words for."""
        rng = self._rng
        if template.fixed.startswith("@"):
            return template.fixed[1:]
        if template.device == "garage":
            return "garage"
        room = rng.choice(ROOMS)
        if template.device in ("timer", "scene"):
            if "{r}" in text:
                return room
            return room if "{p}" in text and rng.random() < 0.25 else "none"
        if "{r}" in text:
            return "all" if rng.random() < 0.07 else room
        if not any(slot in text for slot in ("{D}", "{N}", "{p}")):
            return "none"
        draw = rng.random()
        if template.device == "door":
            # A door of the garage is the garage door, which is a device of its own.
            room = "hallway" if room == "garage" else room
            return (
                "hallway"
                if draw < 0.5
                else "none"
                if draw < 0.66
                else "all"
                if draw < 0.77
                else room
            )
        return room if draw < 0.64 else "none" if draw < 0.85 else "all"

    def _say(self, template: Template, area: str | None = None) -> tuple[str, Action]:
        """The template with its slots filled, framed if it may be; and the action meant."""
        rng = self._rng
        text = expand(template.nodes, rng)
        area = area or self._area(template, text)
        if template.action == "none":
            sentence = self._phrases.fill_nothing(text)
            return self._frame(sentence, template), NOTHING
        spoken_value, value = self._value(template)
        sentence = self._phrases.fill(text, template.device, area, spoken_value)
        action = Action(template.action, template.device, area, value)
        return self._frame(sentence, template), action

    def _value(self, template: Template) -> tuple[str, int | float | str | None]:
        rng = self._rng
        if template.fixed in SCENES:
            return "", template.fixed
        if template.action != "set" or template.fixed == "null":
            return "", None
        # Without its noun a bare number could be anything: then the unit is said.
        named = template.has("{D}", "{d}", "{N}", "{n}", "temp", "brightness")
        if template.device == "timer":
            if template.has("{va}"):
                return spoken.duration_adjective(rng)
            return spoken.duration(rng)
        if template.device == "heating":
            return spoken.degrees(not named, rng)
        return spoken.percent(template.device, not named, rng)

    def _frame(self, sentence: str, template: Template) -> str:
        """The sentence with politeness before and after, which change nothing."""
        rng = self._rng
        draw = rng.random()
        if template.imperative:
            if draw < 0.42:
                sentence = f"{rng.choice(frames.BEFORE_VERB)} {sentence}"
            elif draw < 0.48 and (ing := frames.gerund(sentence)):
                sentence = f"{rng.choice(frames.BEFORE_GERUND)} {ing}"
        if rng.random() < 0.14:
            name = rng.choice(frames.GREETINGS)
            if rng.random() < 0.08:
                name = f"{rng.choice(('hey', 'ok', 'hi', 'dear'))} {self._phrases.made_up()}"
            sentence = f"{name}{rng.choice((',', ',', '', '', '!', '.', '...'))} {sentence}"
        ending = frames.ENDINGS if template.imperative else frames.SOFT_ENDINGS
        if not sentence.endswith("?") and rng.random() < (0.2 if template.imperative else 0.1):
            sentence += f"{rng.choice((',', '', ''))} {rng.choice(ending)}"
        return sentence

    def _elaborate(  # noqa: PLR0911 - a table
        self, sentence: str, action: Action, kind: tuple[str, str], template: Template
    ) -> str:
        """The sentence among others: a reason, chatter, a slip of the tongue, a second wish."""
        rng = self._rng
        draw = rng.random()
        if draw < 0.05 and self._complaints.get(kind) and template.has("{D}", "{d}", "{v}"):
            complaint = self._complaint(kind)
            return (
                complaint + rng.choice((", ", ". ", " so ", ", so ", "; ", " ", " - ")) + sentence
            )
        if draw < 0.13:
            return self._with_chatter(sentence, action)
        if (
            draw < 0.15
            and action.area in ROOMS
            and template.imperative
            and "{r}" not in template.text
        ):
            return self._from_the_room(sentence, action, template)
        if draw < 0.165 and action.area in ROOMS and template.imperative and kind[1] != "garage":
            other = rng.choice([r for r in ROOMS if r != action.area])
            right = rng.choice(lexicon.AREAS[action.area])
            wrong, _ = self._say(template, other)
            if template.device not in ("door", "timer", "scene") and action.value is None:
                tail = rng.choice(("the {}", "{}", "in the {}", "the {} one", "the one in the {}"))
                return f"{wrong}, {rng.choice(CORRECTIONS)} {tail.format(right)}"
        if draw < 0.18 and action.area in ROOMS and template.has("{D}", "{N}", "{p}"):
            other = rng.choice([r for r in ROOMS if r not in (action.area, "hallway")])
            return (
                f"{sentence}, not the {rng.choice(lexicon.AREAS[other])}{rng.choice(('', ' one'))}"
            )
        if draw < 0.195 and template.imperative:
            second = self._pick(rng.choices(self._kinds, self._weights)[0])
            if second.imperative and second.action != "none":
                joint = rng.choice((" and ", " and then ", ", then ", " and also ", ". also "))
                return sentence + joint + self._say(second)[0]
        return sentence

    def _complaint(self, kind: tuple[str, str]) -> str:
        template = self._rng.choice(self._complaints[kind])
        text = expand(template.nodes, self._rng)
        return self._phrases.fill(text.replace("{r}", "the room"), template.device, "none", "")

    def _from_the_room(self, sentence: str, action: Action, template: Template) -> str:
        """The speaker says where they are, and then an order without a place."""
        if template.device in ("door", "garage", "timer", "scene") or action.value is not None:
            return sentence
        rng = self._rng
        room = rng.choice(lexicon.AREAS[action.area])
        where = rng.choice(
            ("i'm in the {}", "we're in the {}", "i'm in the {} now", "here in the {}")
        )
        text = expand(template.nodes, rng)
        order = self._phrases.fill(text, template.device, "none", "")
        if any(here in order for here in lexicon.HERE):
            return sentence
        return (
            where.format(room)
            + rng.choice((", ", ". ", " and ", " so ", ", so ", ", please "))
            + order
        )

    def _with_chatter(self, sentence: str, action: Action) -> str:
        rng = self._rng
        chatter = rng.choice(self._distractors)
        if rng.random() < 0.15:
            nothing: Sequence[Template] = self._by_kind["none", "none"]
            if action.area == "none":
                # "I'm in the kitchen" before an order without a room would name its room.
                nothing = [t for t in nothing if not t.has("{r}", "{any}")]
            chatter = self._phrases.fill_nothing(expand(rng.choice(nothing).nodes, rng))
        if rng.random() < 0.65:
            return (
                chatter
                + rng.choice((", ", ". ", " so ", " and ", ", so ", "; ", " ", " but "))
                + sentence
            )
        return (
            sentence.rstrip("!.")
            + rng.choice((", ", ". ", " because ", "; ", " ", " cos "))
            + chatter
        )
