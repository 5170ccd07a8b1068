# ruff: noqa: SIM905 - word lists read better as prose
"""What keyboards, dictation and haste do to a sentence.

Digits and number words are left alone: a misread number has another right answer.
"""

import re
from random import Random

from tools.demo_model.lexicon import ONES, TENS

NEIGHBOURS = {
    "q": "wa", "w": "qes", "e": "wrd", "r": "etf", "t": "ryg", "y": "tuh", "u": "yij", "i": "uok",
    "o": "ipl", "p": "ol", "a": "qsz", "s": "adwx", "d": "sfec", "f": "dgrv", "g": "fhtb",
    "h": "gjyn", "j": "hkum", "k": "jlim", "l": "kop", "z": "asx", "x": "zsc", "c": "xdv",
    "v": "cfb", "b": "vgn", "n": "bhm", "m": "njk",
}  # fmt: skip
# Words one slip away from another meaning; a typo there would teach a wrong answer.
DELICATE = frozenset((*ONES, *TENS, "on", "off", "hundred", "half", "quarter", "third", "hour"))
DELICATE |= frozenset(
    ("lock", "unlock", "open", "close", "hall", "night", "away", "hours", "point")
)
CHAT = {
    "please": ("pls", "plz", "please"), "you": ("u",), "are": ("r",), "for": ("4", "for"),
    "thanks": ("thx", "tx"), "the": ("teh", "da", "th"), "because": ("cos", "cuz"),
    "want to": ("wanna",), "going to": ("gonna",), "temperature": ("temp",), "with": ("w/",),
    "could": ("cud",), "can": ("cn",), "to": ("2", "to", "to"), "and": ("&", "n"),
}  # fmt: skip
SMALL_WORDS = frozenset(("the a an to in of at please for my is it that be").split())
SWAPS = (
    (r"\boff\b", "of"), (r"\btoo\b", "to"), (r"\bit's\b", "its"), (r"\bi'm\b", "im"),
    (r"\blounge\b", "lunge"), (r"\byou're\b", "your"), (r"\btheir\b", "there"),
    (r"\blight\b", "lite"),
    (r"\bquite\b", "quiet"), (r"\broom\b", "rm"), (r"\bliving room\b", "livingroom"),
    (r"\bblinds\b", "blines"), (r"\bbedroom\b", "bed room"), (r"\bgarage\b", "garadge"),
    (r"\bfan\b", "van"), (r"\bheating\b", "eating"), (r"\btv\b", "t v"), (r"\bdim\b", "dimm"),
)  # fmt: skip


def typo(word: str, rng: Random) -> str:
    """`word` with one slip: a letter swapped, lost, doubled or struck beside its key."""
    at = rng.randrange(len(word) - 1)
    kind = rng.random()
    if kind < 0.3:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind < 0.55:
        return word[:at] + word[at + 1 :]
    if kind < 0.75:
        return word[:at] + word[at] + word[at:]
    near = NEIGHBOURS.get(word[at].lower(), word[at])
    return word[:at] + rng.choice(near) + word[at + 1 :]


def misspell(text: str, slips: int, rng: Random) -> str:
    """`text` with up to `slips` typos, each in a word of four letters or more."""
    tokens = text.split(" ")
    able = [
        i
        for i, token in enumerate(tokens)
        if len(token) >= 4
        and token.isalpha()
        and token.lower() not in DELICATE
        and not any(token.lower().startswith(n) for n in TENS[1:])
    ]
    for i in rng.sample(able, min(slips, len(able))):
        tokens[i] = typo(tokens[i], rng)
    return " ".join(tokens)


def drop_small_words(text: str, rng: Random) -> str:
    """`text` as a telegram: each small word is lost with probability one half."""
    kept = [w for w in text.split(" ") if w.lower() not in SMALL_WORDS or rng.random() < 0.5]
    return " ".join(kept) or text


def shorten(text: str, rng: Random) -> str:
    """`text` in chat spelling: one or two words replaced."""
    for word in rng.sample(sorted(CHAT), len(CHAT)):
        if re.search(rf"\b{word}\b", text):
            return re.sub(rf"\b{word}\b", rng.choice(CHAT[word]), text, count=1)
    return text


def mishear(text: str, rng: Random) -> str:
    """`text` with one word as dictation might write it."""
    for pattern, heard in rng.sample(SWAPS, len(SWAPS)):
        if re.search(pattern, text):
            return re.sub(pattern, heard, text, count=1)
    return text


def punctuate(text: str, question: bool, rng: Random) -> str:
    """`text` with an ending, or none, as people type it."""
    if text.endswith(("?", "!", ".", ")", '"')):
        return text
    draw = rng.random()
    if question:
        return text + ("?" if draw < 0.62 else "??" if draw < 0.63 else "")
    endings = ((0.33, "."), (0.42, "!"), (0.43, "!!"), (0.45, "..."), (0.46, " .."))
    return text + next((mark for limit, mark in endings if draw < limit), "")


def recase(text: str, rng: Random) -> str:
    """`text` in one of the cases people use. The grammar itself is lower case."""
    draw = rng.random()
    if draw < 0.42:
        return text
    if draw < 0.93:
        text = re.sub(r"\bi\b", "I", text)
        text = re.sub(r"\btv(s?)\b", r"TV\1", text) if rng.random() < 0.7 else text
        return re.sub(r"(^|[.!?] )([a-z])", lambda m: m[1] + m[2].upper(), text)
    return text.upper() if draw < 0.96 else text.title()


ASIDES: tuple[str, ...] = (
    "just",
    "quickly",
    "really",
    "kindly",
    "like",
    "maybe",
    "now",
    "actually",
    "please",
    "um",
)
ASIDES += ("uh", "er", "you know", "well", "simply", "then", "also", "again", "perhaps", "sort of")


def interrupt(text: str, rng: Random) -> str:
    """`text` with a word that means nothing between two others; numbers stay whole."""
    tokens = text.split(" ")
    gaps = [
        i
        for i in range(1, len(tokens))
        if not any(t.strip(",.") in DELICATE or t[:1].isdigit() for t in tokens[i - 1 : i + 1])
    ]
    if not gaps:
        return text
    tokens.insert(rng.choice(gaps), rng.choice(ASIDES))
    return " ".join(tokens)


def spoil(text: str, question: bool, rng: Random) -> str:
    """One rendering of a clean lower-case sentence, spoiled about as often as real ones are."""
    if rng.random() < 0.06:
        text = interrupt(text, rng)
    if rng.random() < 0.05:
        text = drop_small_words(text, rng)
    if rng.random() < 0.06:
        text = shorten(text, rng)
    if rng.random() < 0.03:
        text = mishear(text, rng)
    draw = rng.random()
    slips = 1 if draw < 0.14 else 2 if draw < 0.18 else 0
    if slips:
        text = misspell(text, slips, rng)
    if rng.random() < 0.2:
        text = text.replace("'", "")
    elif rng.random() < 0.1:
        text = text.replace("'", "\u2019")
    if rng.random() < 0.12:
        text = text.replace(",", "").replace(":", "")
    return recase(punctuate(text, question, rng), rng)
