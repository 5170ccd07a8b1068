"""What strangers publish: requests that are right, and messages that are wrong in one thing."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from hypothesis import strategies as st

from tests.fuzz.payloads import (
    ANYTHING,
    BAD_SAID,
    BAD_SAMPLING,
    DEEP,
    IDS,
    LIMIT_BYTES,
    NO_PROMPTS,
    PROMPTS,
    SAID,
    SOME_ID,
    SOME_OURS,
    SOME_SAMPLING,
    Pair,
    bad_object,
    good_object,
    nested,
    obj,
    quoted,
    written,
)
from tests.mqtt_wire import PUBLISH, Publication, packet, text

HOME = "~home"
"""In the place of the appliance's base."""

MINE = "me/wattnap/~"
"""A Response Topic in the place of one that no other message has."""

Fate = Literal["answered", "refused", "unanswerable", "any"]


def shortly(value: Any) -> str:
    """A field, as Python."""
    match value:
        case bytes():
            return written(value)
        case str():
            told = value.encode(errors="surrogatepass")
            return repr(value) if len(told) < 200 else f"({written(told)}).decode()"
        case tuple():
            return f"({''.join(shortly(each) + ', ' for each in value)})"
        case _:
            return repr(value)


class Said(NamedTuple):
    """A message, and what is to become of it.

    fate  "answered": it is accepted or repeated, or refused for what others said before;
          "refused": whoever it names is told; "unanswerable": refused, and told on
          `errors` only; "any": it depends
    """

    message: Publication
    fate: Fate

    def __repr__(self) -> str:
        told = (
            f"{name}={shortly(value)}"
            for name, value in zip(self.message._fields, self.message, strict=True)
            if value != Publication._field_defaults.get(name)
        )
        return f"Said(Publication({', '.join(told)}), {self.fate!r})"

    def names_its_own(self, *, v5: bool) -> bool:
        """It says that it waits on MINE. A property wins."""
        if v5 and self.message.response_topic is not None:
            return self.message.response_topic == MINE
        return MINE.encode() in self.message.payload


def placed(message: Publication, base: str, mine: str) -> Publication:
    """As it is said to the appliance at `base`, by one who waits on `mine`."""

    def put(told: str) -> str:
        return told.replace(HOME, base).replace(MINE, mine)

    response_topic = message.response_topic
    return message._replace(
        topic=put(message.topic),
        payload=put(message.payload.decode("latin-1")).encode("latin-1"),
        response_topic=None if response_topic is None else put(response_topic),
    )


Strategy = st.SearchStrategy[Any]
"""Of a Publication's field."""

MAY_WAIT = st.sampled_from((None, MINE, MINE))
EXPIRES = st.sampled_from((None, None, 1, 60, 2**32 - 1, 0))
CORRELATION = st.none() | st.binary(max_size=9) | st.sampled_from((b"\0" * 3000, b"\xff" * 65535))
MEANS = st.sampled_from(
    ((0, False), (1, False), (1, False), (1, True), (2, False), (2, True)),
)
"""QoS, and whether it claims to be sent again."""

HARMLESS = st.sampled_from(
    (
        (),
        (("client", "kitchen"),),
        (("client", "caf\u00e9"), ("client", "x" * 128)),
        (("wattnap-id", "a"),),
        (("wattnap-id", ""),),
        (("wattnap-class", "batch"), ("wattnap-priority", "-100")),
        (("wattnap-stream", "true"),),
        (("wattnap-model", "main"), ("wattnap-hops", "3")),
        (("", ""), ("", ""), ("wattnap", "x"), ("Wattnap-id", " ")),
        (("colour", "x" * 9000),),
    )
)
MORE = st.sampled_from((b"", b"", b"\x01\0", b"\x01\x01", b"\x23\0\x01", b"\x0b\x05"))
"""A payload's format, which need not be true; a topic's alias; what only brokers may say."""


def said(
    fate: Fate, topic: Strategy, payload: Strategy, **fields: Strategy
) -> st.SearchStrategy[Said]:
    """Messages of that fate; what is not given is harmless."""
    given = {
        "response_topic": MAY_WAIT,
        "correlation": CORRELATION,
        "expiry_s": EXPIRES,
        "content_type": st.sampled_from((None, "text/plain", "", "\u202e")),
        "user": HARMLESS,
        "more": MORE,
        "retain": st.just(False),
        **fields,
    }

    def make(means: tuple[int, bool], **fields: Any) -> Said:
        qos, dup = means
        return Said(Publication(qos=qos, dup=dup, **fields), fate)

    return st.builds(make, MEANS, topic=topic, payload=payload, **given)


REQUEST = f"{HOME}/request"
REQUESTS = st.one_of(
    st.sampled_from((REQUEST, f"{REQUEST}/main")),
    IDS.map(lambda name: f"{REQUEST}/main/{name}"),
)
"""Topics of requests, as they should be."""

WITH_ADDRESS = st.builds(
    lambda said, sampling, ours, name: good_object(
        said, sampling, [*ours, ("response_topic", quoted(MINE))], name
    ),
    SAID,
    SOME_SAMPLING,
    SOME_OURS,
    SOME_ID,
)
"""Prompts that say in the JSON where the answer goes, as senders with MQTT 3.1.1 must."""

RIGHT = said("answered", REQUESTS, PROMPTS | WITH_ADDRESS)

HINT: Pair = ("wattnap", obj([("response_topic", quoted(MINE)), ("correlation", b'"c"')]))
BAD_WITH_ADDRESS = st.builds(
    lambda pair: bad_object([HINT, ("prompt", b'"x"')], ("seed", b"1"), [pair]),
    st.sampled_from([pair for pair in (*BAD_SAMPLING, *BAD_SAID) if pair[0] != "wattnap"]),
)
"""Wrong, but it can be read whom to tell."""


def is_wrong_everywhere(payload: bytes) -> bool:
    """Not only where no topic names the model, and not as a loop, which is told on `errors`."""
    return b'"model":"' not in payload and b'"hops"' not in payload


LOOPS = st.sampled_from(
    (
        b'{"prompt":"x","wattnap":{"hops":4}}',
        b'{"prompt":"x","wattnap":{"hops":9223372036854775807}}',
    )
)

BAD_IDS = st.sampled_from(("a b", "x" * 129)).map(lambda told: (("wattnap-id", told),))
LOOPING_USERS = st.sampled_from(("4", "9" * 40)).map(lambda hops: (("wattnap-hops", hops),))

BAD_TOPICS = (
    f"{REQUEST}/",
    f"{REQUEST}//",
    f"{REQUEST}/main/",
    f"{REQUEST}//a",
    f"{REQUEST}/main/a/b",
    f"{REQUEST}/main/a b",
    f"{REQUEST}/main/caf\u00e9",
    f"{REQUEST}/main/" + "x" * 129,
    f"{REQUEST}/other",
    f"{REQUEST}/other/a",
    f"{REQUEST}/Main",
    f"{REQUEST}/" + "m" * 65,
    f"{REQUEST}/m\u202e",
    f"{REQUEST}/\U0001f600/a",
    f"{REQUEST}" + "/x" * 190,
    f"{REQUEST}/" + "\u0800" * 20_000,
)

FORBIDDEN = (
    "",
    "other/place",
    "wattnap",
    "me/wattnap/#",
    "+/wattnap/x",
    "$SYS/broker/wattnap",
    "me/wattnap/" + "x" * 2000,
    "me/wattnap" + "/x" * 250,
    HOME,
    f"{HOME}/request",
    f"{HOME}/request/main/a",
    f"{HOME}/cancel/a",
    f"{HOME}/wake",
    f"{HOME}/state",
    f"{HOME}/availability",
    f"{HOME}/errors",
    f"{HOME}/response",
    f"{HOME}/response/+",
)
"""Where no answer may go. The broker lets all of them pass."""

IN_JSON = st.sampled_from(FORBIDDEN[1:]).map(
    lambda topic: obj([("prompt", b'"x"'), ("wattnap", obj([("response_topic", quoted(topic))]))])
)

BAD_USERS = st.sampled_from(
    (
        (("client", "x" * 129),),
        (("client", "\U0001f600" * 9000),),
        (("wattnap-colour", "red"),),
        (("wattnap-", ""),),
        (("wattnap-model", "caf\u00e9"),),
        (("wattnap-model", ""),),
        (("wattnap-class", "urgent"),),
        (("wattnap-priority", "101"),),
        (("wattnap-priority", "1.5"),),
        (("wattnap-priority", "9" * 400),),
        (("wattnap-stream", "maybe"),),
        (("wattnap-hops", "-1"),),
        (("wattnap-hops", "many"),),
        (("wattnap-hops", "\u0664"),),
    )
)

UNREADABLE: tuple[dict[str, Strategy], ...] = (
    {"content_type": st.just("\ufeff")},
    {"user": st.just((("\ufeff", ""),))},
    {"more": st.just(b"\x26\0\0\0\0" * 60_000)},
)
"""Properties that the broker lets pass, and nobody can read, or wants to."""

BAD_WAKES = (
    b"now!", b'{"keep_warm_s":-1}', b'{"keep_warm_s":1e999}', b'{"keep_warm_s":"1"}', b"[1]",
    b'{"keep_warm_s":604801}', b'{"depth":"off"}', b"\xff", b"NaN", b'"', nested(5000),
)  # fmt: skip
BAD_RESTS = (
    b"mars", b"awake", b"OFF", b"\xff", b'{"depth":5}', b'{"depth":"mars"}', b'{"colour":1}', b"{",
    b'{"depth":"' + b"d" * 9000 + b'"}', b"\xef\xbb\xbfoff", b"d" * 2 * LIMIT_BYTES, b"o\0ff",
)  # fmt: skip

RETAINED = st.sampled_from(
    (b'{"prompt":"%s"}' % MINE.encode(), b"%s" % MINE.encode(), b"{%s" % MINE.encode())
)
"""Each is another one: of what is the same only the first is told."""

CANCEL = HOME + "/cancel/{}"
NOBODY = ("nobody", "a b", "caf\u00e9", "x" * 129, "\u202e")

BAD_311 = (
    said("refused", REQUESTS, NO_PROMPTS.filter(is_wrong_everywhere)),
    said("refused", REQUESTS, BAD_WITH_ADDRESS.filter(is_wrong_everywhere)),
    said("refused", st.sampled_from(BAD_TOPICS), PROMPTS),
    said("refused", st.just(f"{HOME}/wake"), st.sampled_from(BAD_WAKES)),
    said("refused", st.just(f"{HOME}/rest"), st.sampled_from(BAD_RESTS)),
    said("refused", st.sampled_from(NOBODY).map(CANCEL.format), st.just(b"")),
    said("unanswerable", REQUESTS, LOOPS),
    said("unanswerable", st.just(f"{REQUEST}/main/a\ufeff"), PROMPTS),
    said("unanswerable", REQUESTS, IN_JSON, response_topic=st.none()),
    said("unanswerable", REQUESTS, RETAINED, retain=st.just(True)),
)
"""Also without properties each of them is wrong."""

BAD_5 = (
    *BAD_311,
    said("refused", REQUESTS, PROMPTS, user=BAD_USERS),
    said("refused", st.just(f"{REQUEST}/main"), PROMPTS, user=BAD_IDS),
    said("unanswerable", REQUESTS, PROMPTS, response_topic=st.sampled_from(FORBIDDEN)),
    said("unanswerable", REQUESTS, PROMPTS, user=LOOPING_USERS),
    *(said("unanswerable", REQUESTS, PROMPTS, **fields) for fields in UNREADABLE),
)

CONTROLS = st.one_of(
    said("any", st.just(f"{HOME}/wake"), st.sampled_from((b"", b" ", b'{"keep_warm_s":600}'))),
    said("any", st.just(f"{HOME}/rest"), st.sampled_from((b"", b"off\n", b'{"depth":null}'))),
    said("any", IDS.map(CANCEL.format), st.just(b"")),
)
NONSENSE = said(
    "any",
    REQUESTS | st.sampled_from((f"{HOME}/wake", f"{HOME}/rest", *BAD_TOPICS)),
    ANYTHING | DEEP,
    response_topic=MAY_WAIT | st.sampled_from(FORBIDDEN),
    user=HARMLESS | BAD_USERS,
    retain=st.booleans(),
)

BROKEN = (
    Publication(f"{REQUEST}/+").encoded(1),
    Publication("").encoded(1),
    Publication(f"{REQUEST}/\x01").encoded(1),
    Publication(REQUEST, response_topic="me/wattnap/\0").encoded(1),
    Publication(REQUEST, more=b"\x55").encoded(1),
    Publication(REQUEST, expiry_s=1, more=b"\x02\0\0\0\x01").encoded(1),
    Publication(REQUEST, qos=3).encoded(1),
    packet(PUBLISH, text(b"\xff\xfe") + b"\0\1x"),
    packet(0, b""),
    b"\x30" + b"\xff" * 5,
    b"GET / HTTP/1.1\r\n\r\n",
)
"""No MQTT: the broker shows its sender the door, in the middle of what it says."""


class Visit(NamedTuple):
    """One connection: some messages, and how it ends.

    manner  "listen": hears that the broker has them all; "leave": closes at once, without
            a goodbye; "reset": likewise, and breaks off; "cut": leaves in the middle of
            the last message; or, of BROKEN, what it says last
    """

    messages: list[Said]
    v5: bool
    manner: str | bytes


def visits(messages: dict[bool, Strategy], manners: Strategy) -> st.SearchStrategy[list[Visit]]:
    """Twenty messages, in visits of ten; `messages`: with MQTT 5, and without."""

    def visit(v5: bool) -> st.SearchStrategy[Visit]:
        ten = st.lists(messages[v5], min_size=10, max_size=10)
        return st.builds(Visit, ten, st.just(v5), manners)

    some = st.sampled_from((True, True, False)).flatmap(visit)
    return st.lists(some, min_size=2, max_size=2)


WELL = st.just("listen")
ANYHOW = st.sampled_from(("listen",) * 6 + ("leave", "reset", "cut")) | st.sampled_from(
    ("listen", *BROKEN)
)

BAD = {True: st.one_of(*BAD_5), False: st.one_of(*BAD_311)}
MESSAGES = {
    v5: st.one_of(RIGHT, RIGHT, RIGHT, CONTROLS, bad, bad, NONSENSE) for v5, bad in BAD.items()
}
