# ruff: noqa: RUF005 - word lists read better as prose
"""Numbers as people say them: percentages, temperatures and durations.

Each function draws from the generator it is given and changes nothing else.
"""

from collections.abc import Mapping
from random import Random

from tools.demo_model.lexicon import ONES, TENS

HALVES: Mapping[int, tuple[str, ...]] = {
    50: ("half", "half", "half way", "halfway", "a half", "the half", "one half", "half-way"),
    25: ("a quarter", "a quarter", "one quarter", "quarter"),
    75: ("three quarters", "three-quarters", "three quarter"),
    33: ("a third", "one third", "about a third"),
    66: ("two thirds", "two-thirds"),
}
FULL = ("full", "max", "maximum", "full power", "full brightness", "the max", "the maximum") + (
    "full blast",
    "full whack",
    "maximum brightness",
    "top brightness",
    "full on",
    "the fullest",
)
# Durations people ask for, in minutes; repetition is weight.
COMMON_MIN = (
    1,
    2,
    3,
    4,
    5,
    5,
    5,
    6,
    7,
    8,
    9,
    10,
    10,
    10,
    12,
    15,
    15,
    20,
    20,
    25,
    30,
    30,
    40,
    45,
    60,
)


def words(number: int, rng: Random) -> str:
    """`number` (0 to 9999) spelled out, with or without hyphen and "and"."""
    if number < 20:
        return ONES[number]
    if number < 100:
        ten, one = divmod(number, 10)
        return TENS[ten] + (rng.choice("- ") + ONES[one] if one else "")
    size, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    many, rest = divmod(number, size)
    head = rng.choice(("a", "one")) if many == 1 else words(many, rng)
    tail = f"{rng.choice((' and ', ' '))}{words(rest, rng)}" if rest else ""
    return f"{head} {name}{tail}"


def either(number: int, rng: Random, digits: float = 0.6) -> str:
    """`number` in digits with the given probability, else in words."""
    return str(number) if rng.random() < digits else words(number, rng)


def percent(device: str, unit: bool, rng: Random) -> tuple[str, int]:
    """A level of 0 to 100 %. `unit` forces the word percent or a fraction."""
    draw = rng.random()
    if draw < 0.09:
        return rng.choice(HALVES[50]), 50
    if draw < 0.17:
        value = rng.choice((25, 25, 75, 33, 66))
        return rng.choice(HALVES[value]), value
    # "fully open" means open, so only lights and fans have a full.
    if draw < 0.21 and device != "blinds":
        return rng.choice(FULL), 100
    value = rng.choice(range(5, 101, 5)) if rng.random() < 0.5 else rng.randint(0, 100)
    if unit or rng.random() < 0.72:
        sign = ("%", "%", "%", " %", " percent", " percent", " percent", " per cent", " pct", "pc")
        suffix = rng.choice(sign)
        return either(value, rng, 1.0 if suffix in ("%", " %", "pc") else 0.45) + suffix, value
    return either(value, rng), value


def degrees(unit: bool, rng: Random) -> tuple[str, int | float]:
    """A temperature of 5 to 35 °C, mostly whole, often a half, rarely another tenth."""
    whole = rng.randint(15, 26) if rng.random() < 0.75 else rng.randint(5, 35)
    draw = rng.random()
    if draw < 0.16:
        tenth, text = 5, _and_a_half(whole, rng)
    elif draw < 0.21:
        tenth = rng.randint(1, 9)
        text = _decimal(whole, tenth, rng)
    else:
        tenth, text = 0, either(whole, rng)
    if unit or rng.random() < 0.6:
        text += _degree_sign(text[-1].isdigit(), rng)
    return text, whole + tenth / 10 if tenth else whole


def _and_a_half(whole: int, rng: Random) -> str:
    form = rng.random()
    if form < 0.4:
        return _decimal(whole, 5, rng)
    joint = rng.choice((" and a half", " and a half", " and half", " and one half", " 1/2"))
    return either(whole, rng, 1.0 if joint == " 1/2" else 0.4) + joint


def _decimal(whole: int, tenth: int, rng: Random) -> str:
    draw = rng.random()
    if draw < 0.65:
        return f"{whole}.{tenth}"
    if draw < 0.75:
        return f"{whole},{tenth}"
    return f"{words(whole, rng)} point {ONES[tenth]}"


def _degree_sign(after_digit: bool, rng: Random) -> str:
    spoken = (" degrees",) * 6 + (" degrees celsius", " degree", " degrees centigrade", " celsius")
    written = ("°", "°C", "°c", " °C", "C", "c", " C", " deg")
    return rng.choice(spoken + written if after_digit and rng.random() < 0.5 else spoken)


def duration(rng: Random) -> tuple[str, int]:
    """A length of time and its seconds, 1 s to 24 h."""
    draw = rng.random()
    if draw < 0.40:
        minutes = rng.choice(COMMON_MIN) if rng.random() < 0.5 else rng.randint(1, 120)
        return _count(minutes, "minute", rng), minutes * 60
    if draw < 0.52:
        seconds = (
            rng.choice((10, 15, 20, 30, 45, 60, 90)) if rng.random() < 0.5 else rng.randint(1, 120)
        )
        return _count(seconds, "second", rng), seconds
    if draw < 0.60:
        hours = rng.randint(1, 12) if rng.random() < 0.9 else rng.randint(13, 24)
        return _count(hours, "hour", rng), hours * 3600
    if draw < 0.78:
        return _fraction(rng)
    if draw < 0.92:
        return _two_parts(rng.randint(1, 12), "hour", rng.randint(1, 59), "minute", rng)
    return _two_parts(rng.randint(1, 30), "minute", rng.randint(1, 59), "second", rng)


UNIT_S = {"second": 1, "minute": 60, "hour": 3600}
SHORT = {
    "second": ("s", " s", " sec", " secs", "sec"),
    "minute": ("m", " min", " min", " mins", "min", "mins"),
    "hour": ("h", " h", " hr", " hrs", "hr"),
}


def _count(number: int, unit: str, rng: Random) -> str:
    if rng.random() < 0.25:
        return f"{number}{rng.choice(SHORT[unit])}"
    if number == 1 and rng.random() < 0.6:
        return "an hour" if unit == "hour" else f"a {unit}"
    if number == 2 and rng.random() < 0.08:
        return f"a couple of {unit}s"
    # Learners and dictation both drop the plural.
    plural = "" if number == 1 or rng.random() < 0.03 else "s"
    return f"{either(number, rng, 0.5)} {unit}{plural}"


def _fraction(rng: Random) -> tuple[str, int]:
    """Halves and quarters, alone or after a whole."""
    alone = (
        ("half an hour", 1800), ("half an hour", 1800), ("half hour", 1800), ("a half hour", 1800),
        ("a half an hour", 1800), ("half a minute", 30), ("a quarter of an hour", 900),
        ("a quarter of an hour", 900), ("quarter of an hour", 900), ("a quarter hour", 900),
        ("quarter hour", 900), ("three quarters of an hour", 2700), ("one hour and half", 5400),
        ("three-quarters of an hour", 2700), ("an hour and a half", 5400),
        ("hour and a half", 5400),
        ("an hour and half", 5400), ("one and a half hours", 5400), ("one and a half hour", 5400),
        ("an hour and a quarter", 4500), ("an hour and three quarters", 6300), ("1/2 hour", 1800),
        ("a minute and a half", 90), ("one and a half minutes", 90), ("1.5 hours", 5400),
        ("half of an hour", 1800), ("half hr", 1800), ("half an hr", 1800), ("one half hour", 1800),
    )  # fmt: skip
    if rng.random() < 0.6:
        return rng.choice(alone)
    unit = rng.choice(("minute", "minute", "hour"))
    whole = rng.randint(1, 12)
    seconds = UNIT_S[unit] * whole + UNIT_S[unit] // 2
    if rng.random() < 0.3:
        return f"{whole}.5 {unit}s", seconds
    if rng.random() < 0.2:
        return f"{either(whole, rng, 0.4)} {unit}s and a half", seconds
    return f"{either(whole, rng, 0.4)} and a half {unit}s", seconds


def _two_parts(
    big: int, big_unit: str, small: int, small_unit: str, rng: Random
) -> tuple[str, int]:
    if rng.random() < 0.4:
        small = rng.choice((5, 10, 15, 20, 30, 40, 45, 50))
    seconds = big * UNIT_S[big_unit] + small * UNIT_S[small_unit]
    draw = rng.random()
    if draw < 0.2:
        letters = (
            f"{big}{big_unit[0]}{rng.choice(('', ' '))}{small}{rng.choice((small_unit[0], ''))}"
        )
        return letters, seconds
    joint = rng.choice((" and ", " and ", " ", ", ", " plus "))
    if draw < 0.3:
        return (
            f"{_count(big, big_unit, rng)}{rng.choice((' ', ' and '))}{either(small, rng)}",
            seconds,
        )
    return f"{_count(big, big_unit, rng)}{joint}{_count(small, small_unit, rng)}", seconds


def duration_adjective(rng: Random) -> tuple[str, int]:
    """A duration before a noun: "ten-minute", "half-hour", "90 second"."""
    draw = rng.random()
    if draw < 0.14:
        fixed = (
            ("half hour", 1800),
            ("half-hour", 1800),
            ("quarter-hour", 900),
            ("hour-long", 3600),
        )
        return rng.choice((*fixed, ("one-hour", 3600), ("quarter hour", 900), ("hour", 3600)))
    unit = rng.choice(("minute", "minute", "minute", "minute", "second", "hour"))
    number = rng.randint(1, 12) if unit == "hour" else rng.randint(1, 120)
    if unit == "minute" and rng.random() < 0.5:
        number = rng.choice(COMMON_MIN)
    if draw < 0.24:
        return f"{either(number, rng, 0.4)} and a half {unit}", number * UNIT_S[unit] + UNIT_S[
            unit
        ] // 2
    if draw < 0.4:
        return f"{number}{rng.choice(SHORT[unit])}", number * UNIT_S[unit]
    return f"{either(number, rng, 0.5)}{rng.choice('- ')}{unit}", number * UNIT_S[unit]
