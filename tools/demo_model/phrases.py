# ruff: noqa: SIM905 - word lists read better as prose
"""Fills a template's slots: which words stand for a device in a room.

One `Phrases` shares its caller's generator, so a seed fixes everything.
"""

import re
from collections.abc import Sequence
from random import Random

from tools.demo_model import lexicon, spoken
from tools.demo_model.actions import ROOMS

# How often a device is named in the plural when a single thing would do.
PLURAL = {"light": 0.42, "heating": 0.12, "blinds": 0.8, "tv": 0.02, "fan": 0.1, "socket": 0.15}
ARTICLES = ("the",) * 12 + ("my", "my", "our", "that", "this", "your")
ROOM_ARTICLES = ("the",) * 14 + ("my", "our")
SYLLABLES = (
    "ba be bi bo da de di do fa fi fo ga go ha hu ja jo ka ke ki ko la le li lo lu ma me "
    "mi mo na ne ni no pa pe po qua ra re ri ro sa se si so ta te ti to va ve vi wa we xa "
    "yo za zi ter ling ston wick dor mar bel tan gris plo fen tru skel bran nox"
).split()


class Phrases:
    """Words for slots, drawn from `rng`."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def fill(self, text: str, device: str, area: str, value: str) -> str:
        """`text` with every slot filled so that it says `device` in `area` with `value`."""
        rng = self._rng
        has_p = "{p}" in text
        # The room is said once: in {r}, else in {D} or {N} or {p}.
        named = "{r}" in text
        in_place = has_p and not named and (rng.random() < 0.5 or not re.search(r"\{[DN]\}", text))
        inside = "none" if named or in_place else area
        plural = self._is_plural(device, inside)
        phrase, plural = self._device(
            device, inside, plural, there=area if inside == "none" else ""
        )
        noun = self._noun(device, plural)
        slots = {
            "{D}": phrase,
            "{d}": f"{rng.choice(ARTICLES)} {noun}" if rng.random() < 0.9 else noun,
            "{N}": self._bare(device, inside, plural),
            "{n}": noun,
            "{p}": self._place(area) if in_place else self._place("none") if area == "none" else "",
            "{r}": self._room(area),
            "{v}": value,
            "{va}": value,
            "{a timer}": self._a_timer(),
            "{is}": "are" if plural else "is",
            "{has}": "have" if plural else "has",
            "{it}": "them" if plural else "it",
            "{that}": "those" if plural else "that",
        }
        if area == "none" and "{d}" in text and rng.random() < 0.5:
            slots["{p}"] = ""
        text = text.replace("{IS} {D}", f"{slots['{is}']} {phrase}")
        return self._tidy(re.sub(r"\{[\w ]+\}", lambda m: slots[m[0]], text))

    def fill_nothing(self, text: str) -> str:
        """`text` with the slots of templates that no action answers."""
        rng = self._rng

        def word(match: re.Match[str]) -> str:  # noqa: PLR0911 - a table
            match match[0]:
                case "{app}":
                    return rng.choice(lexicon.APPLIANCES)
                case "{thing}":
                    return rng.choice(lexicon.THINGS)
                case "{person}":
                    return rng.choice((*lexicon.PEOPLE, self.made_up()))
                case "{food}":
                    return rng.choice(lexicon.FOODS)
                case "{place}":
                    return rng.choice((*lexicon.PLACES, self.made_up()))
                case "{topic}":
                    return rng.choice(lexicon.TOPICS)
                case "{adj}":
                    return rng.choice(lexicon.TRAITS)
                case "{num}":
                    return spoken.either(rng.randint(2, 200), rng)
                case "{r}":
                    return self._room(rng.choice(ROOMS))
                case "{any}":
                    device = rng.choice(
                        ("light", "heating", "blinds", "tv", "fan", "socket", "door")
                    )
                    area = rng.choice(("none", rng.choice(ROOMS)))
                    return self._device(device, area, self._is_plural(device, area))[0]
                case "{is}":
                    return rng.choice(("is", "was"))
                case _:
                    return self.made_up()

        return self._tidy(re.sub(r"\{\w+\}", word, text))

    def made_up(self) -> str:
        """A word that is in no list, two or three syllables long."""
        return "".join(self._rng.choices(SYLLABLES, k=self._rng.choice((2, 2, 3))))

    @staticmethod
    def _tidy(text: str) -> str:
        text = re.sub(r"\s+([,.!?;:])", r"\1", re.sub(r"\s+", " ", text)).strip(" ,")
        # "turn on the light , thanks" has lost its place phrase, "in {r}, ..." never does.
        return re.sub(r",(?=[,.!?])", "", text)

    def _is_plural(self, device: str, area: str) -> bool:
        if device in ("garage", "door", "timer"):
            return device != "garage" and area == "all"
        return self._rng.random() < PLURAL.get(device, 0.0)

    def _noun(self, device: str, plural: bool) -> str:
        rng = self._rng
        noun = rng.choice(lexicon.NOUNS[device][plural])
        if device in PLURAL and rng.random() < 0.07:
            extra = rng.choice(lexicon.ADJECTIVES) if rng.random() < 0.7 else self.made_up()
            noun = f"{extra} {noun}"
        return noun

    def _room(self, area: str) -> str:
        rng = self._rng
        if area == "all":
            return rng.choice(lexicon.ROOM_ALL)
        if area == "none":
            return rng.choice(("here", "this room", "the room"))
        name = rng.choice(lexicon.AREAS[area])
        return name if rng.random() < 0.15 else f"{rng.choice(ROOM_ARTICLES)} {name}"

    def _place(self, area: str) -> str:  # noqa: PLR0911 - a table
        rng = self._rng
        if area == "all":
            return rng.choice(lexicon.IN_ALL)
        if area == "none":
            return rng.choice(lexicon.HERE) if rng.random() < 0.3 else ""
        if area == "garden" and rng.random() < 0.3:
            return rng.choice(
                ("outside", "outdoors", "out in the garden", "out the back", "out back")
            )
        room = self._room(area)
        draw = rng.random()
        if draw < 0.86:
            return f"in {room}"
        if draw < 0.92:
            where = ("over in", "for", "inside", "at", "out in", "down in", "throughout", "around")
            return f"{rng.choice(where)} {room}"
        if draw < 0.96:
            return f"in {room} {rng.choice(('area', 'now', 'please', 'too'))}"
        return rng.choice(lexicon.AREAS[area])

    def _device(  # noqa: PLR0911, PLR0912 - a table of forms
        self, device: str, area: str, plural: bool, there: str = ""
    ) -> tuple[str, bool]:
        """A noun phrase, and whether it is plural. `there` is the room said elsewhere, if it is."""
        rng = self._rng
        if device == "door":
            return self._door(area)
        if device == "timer":
            return self._timer(), False
        if device == "garage":
            noun = self._noun("garage", plural)
            return (
                noun
                if rng.random() < 0.1
                else f"{rng.choice(('the', 'the', 'the', 'my', 'our'))} {noun}"
            ), plural
        if area == "all":
            return self._every(device)
        noun = self._noun(device, plural)
        article = rng.choice(ARTICLES)
        if plural and article in ("that", "this"):
            article = "those"
        if area == "none":
            if plural and there in ROOMS and rng.random() < 0.2:
                article = "all the"
            return (f"{article} {noun}" if rng.random() < 0.93 else noun), plural
        room = rng.choice(lexicon.AREAS[area])
        if rng.random() < 0.06 and plural:
            article = rng.choice(("all the", "all", "both", "every one of the", "all of the"))
        draw = rng.random()
        if draw < 0.5:
            return f"{article} {room} {noun}", plural
        if draw < 0.58:
            return f"{room} {noun}", plural
        where = f"{rng.choice(ROOM_ARTICLES)} {room}" if rng.random() < 0.9 else room
        if draw < 0.9:
            return f"{article} {noun} in {where}", plural
        if area == "garden":
            return (
                f"{article} {noun} {rng.choice(('outside', 'out in the garden', 'outdoors'))}",
                plural,
            )
        joint = rng.choice(
            ("of", "of", "that's in", "over in", "from", "at", "for", "out in", "inside")
        )
        if draw < 0.97:
            return f"{article} {noun} {joint} {where}", plural
        return f"{article} {room}'s {noun}", plural

    def _every(self, device: str) -> tuple[str, bool]:
        rng = self._rng
        one, many = (self._noun(device, plural) for plural in (False, True))
        single: tuple[str, ...] = (
            f"every {one}",
            f"every single {one}",
            f"each {one}",
            f"each and every {one}",
        )
        several: tuple[str, ...] = (
            f"all the {many}",
            f"all the {many}",
            f"all {many}",
            f"all of the {many}",
        )
        several += (
            f"all my {many}",
            f"all our {many}",
            f"all those {many}",
            f"the {many}, all of them",
        )
        if device == "heating":
            several += (f"the whole {one}", f"all the {one}", f"all {one}")
        draw = rng.random()
        if draw < 0.18:
            return rng.choice(single) + rng.choice(
                ("", " in the house", " we have", " in the place")
            ), False
        if draw < 0.6:
            return rng.choice(several), True
        if draw < 0.8:
            return f"{rng.choice(several)} {rng.choice(lexicon.IN_ALL)}", True
        return f"the {rng.choice((one, many, many))} {rng.choice(lexicon.IN_ALL)}", True

    def _door(self, area: str) -> tuple[str, bool]:
        rng = self._rng
        if area == "hallway":
            return rng.choice(lexicon.FRONT_DOOR), False
        if area == "all":
            every: tuple[str, ...] = (
                "all the doors",
                "all doors",
                "every door",
                "each door",
                "all of the doors",
            )
            every += ("every single door", "all the doors in the house", "the doors everywhere")
            every += ("every door in the house", "all our doors", "the doors in the whole house")
            choice = rng.choice(every)
            return choice, "doors" in choice
        if area == "none":
            return rng.choice(
                ("the door", "the door", "the door", "this door", "that door", "door", "my door")
            ), False
        room = rng.choice(lexicon.AREAS[area])
        forms = (
            "the {} door",
            "the {} door",
            "the {} door",
            "the door in the {}",
            "the door to the {}",
        )
        return rng.choice((*forms, "the door of the {}", "{} door", "my {} door")).format(
            room
        ), False

    def _timer(self) -> str:
        rng = self._rng
        noun = self._noun("timer", False)
        draw = rng.random()
        if draw < 0.62:
            return f"{rng.choice(('the', 'the', 'the', 'my', 'that', 'this', 'our'))} {noun}"
        if draw < 0.70:
            return f"the {spoken.duration_adjective(rng)[0]} {noun}"
        if draw < 0.78:
            mine, joint = rng.choice(("the", "that", "my")), rng.choice(("in", "for", "of"))
            return f"{mine} {noun} {joint} {spoken.duration(rng)[0]}"
        what = rng.choice(
            ("the cake", "the eggs", "mum", "the oven", "dinner", "the laundry", "my tea")
        )
        if draw < 0.86:
            return f"the {noun} {rng.choice(('for', 'about'))} {what}"
        if draw < 0.92:
            return f"the {noun} i {rng.choice(('set', 'made', 'started', 'asked for', 'put on'))}"
        return rng.choice(
            (noun, f"all {noun}s", f"my {noun}s", f"every {noun}", f"the last {noun}")
        )

    def _a_timer(self) -> str:
        rng = self._rng
        noun = self._noun("timer", False)
        if rng.random() < 0.12:
            return noun
        new = rng.choice(
            ("", "", "", "", "new ", "quick ", "little ", "short ", "another ", "second ")
        )
        article = "an" if (new + noun)[0] in "aeiou" else "a"
        return f"{new}{noun}" if new == "another " else f"{article} {new}{noun}"

    def _bare(self, device: str, area: str, plural: bool) -> str:
        rng = self._rng
        if device == "door":
            return re.sub(r"^(the|my|our|that|this) ", "", self._door(area)[0])
        if device == "timer":
            return rng.choice(("timer", "timer", "alarm", "reminder", "countdown"))
        noun = self._noun(device, plural)
        if device == "garage":
            return noun
        if area == "all":
            forms: Sequence[str] = (
                f"all {noun}",
                f"{noun} {rng.choice(lexicon.IN_ALL)}",
                f"every {noun}",
            )
            return rng.choice(forms)
        if area == "none":
            return noun
        room = rng.choice(lexicon.AREAS[area])
        return rng.choice(
            (f"{room} {noun}",) * 5 + (f"{noun} {room}", f"{noun} in {room}", f"{room}, {noun}")
        )
