"""What strangers write: prompts that are right, and prompts that are wrong in one thing.

JSON is put together from raw pieces, so that it may hold what no encoder would write.
`PROMPTS` are understood by `appliance.request.parse`, each of them; `NO_PROMPTS` are
wrong by construction. Doors are tried with both, and with bytes that are neither.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hypothesis import strategies as st

LIMIT_BYTES = 8192
"""Of the appliances that are tried, so that what is too large is quickly written."""

Pair = tuple[str, bytes]
"""One member of an object: its name, and its value as it is written."""


def obj(pairs: Sequence[Pair]) -> bytes:
    return b"{%s}" % b",".join(b'"%s":%s' % (name.encode(), value) for name, value in pairs)


REPEATED = re.compile(rb"(.{1,6}?)\1{19,}", re.DOTALL)


def written(raw: bytes) -> str:
    """As Python, to be tried again: what is repeated stands there once."""
    parts, at = [], 0
    for match in REPEATED.finditer(raw):
        if raw[at : match.start()]:
            parts.append(repr(raw[at : match.start()]))
        parts.append(f"{match[1]!r} * {len(match[0]) // len(match[1])}")
        at = match.end()
    return " + ".join([*parts, *([repr(raw[at:])] if raw[at:] or not parts else [])])


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


SCALARS = (
    b"null", b"true", b"0", b"-1", b"1", b"1.5", b"-0.0", b"1e2", b"1e308", b"5e-324",
    b"9" * 30, b"9" * 400, b'""', b'"a"', b'"main"', b'"1"', b'"\\u0000"', b'"\\ufeff"',
    b'"' + b"x" * 200 + b'"', b"[]", b"{}", b"[null]", b'{"a":{"a":[]}}', nested(60),
    '"caf\u00e9"'.encode(), '"cafe\u0301"'.encode(), '"\u202e\U0001f600"'.encode(),
)  # fmt: skip
"""JSON, all of it, and of each kind something."""

NO_JSON = (
    b"", b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400", b"9" * 5000, b"01", b"+1", b".5",
    b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xed\xa0\x80"', b'"\xff"', b'"\0"', b'"\n"', b'"\\x41"',
    b'"', b"[", b"{", b'{"a"', b"[1,]", b"tru", b"'a'", b"/**/1", b"[" * 5000, b'{"a":' * 600,
)  # fmt: skip
"""No value in JSON, wherever it stands."""

GOOD_IDS = ("a", "b", "kitchen-1", "x" * 128, "..", "a@b:c=d", "-")
BAD_IDS = (
    " ", "a b", "a/b", "/", "a\n", "x" * 129, "x" * 3000, "+", "#", "$SYS", "caf\u00e9",
    "cafe\u0301", "\u212b", "\uff41", "\u202ea", "\U0001f600", "a\t",
)  # fmt: skip
"""Also ids that become good ones, or one another, by Unicode's normalisation."""

IDS = st.sampled_from((*GOOD_IDS, *(f"r{number}" for number in range(60))))


def quoted(text: str) -> bytes:
    return b'"%s"' % text.encode().replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(
        b"\n", b"\\n"
    ).replace(b"\t", b"\\t")


SAMPLING: tuple[Pair, ...] = (
    ("max_tokens", b"3"),
    ("max_tokens", b"null"),
    ("temperature", b"0"),
    ("temperature", b"2"),
    ("top_p", b"1e-300"),
    ("n", b"1"),
    ("seed", b"9" * 400),
    ("seed", b"-1"),
    ("stop", b'["a","\\u0000"]'),
    ("stream", b"true"),
    ("stream", b"false"),
    ("stream_options", b'{"a":[1]}'),
    ("user", b'"\\u0000"'),
    ("metadata", b'{"a":%s}' % nested(100)),
    ("metadata", b'{"":{"":null},"":[1e308,%s]}' % (b"9" * 1000)),
    ("logit_bias", b'{"5":-100}'),
    ("model", b'"main"'),
    ("model", b"null"),
    ("repetition_penalty", b"5e-324"),
    ("stop_token_ids", b"[%s]" % (b"9" * 50)),
)

OURS: tuple[Pair, ...] = (
    ("class", b'"batch"'),
    ("class", b'"interactive"'),
    ("priority", b"-100"),
    ("priority", b"100"),
    ("deadline_s", b"30"),
    ("deadline_s", b"2592000"),
    ("deadline_s", b"5e-324"),
    ("deadline_s", b"null"),
    ("stream", b"true"),
    ("hops", b"3"),
    ("hops", b"0"),
    ("model", b'"main"'),
    ("correlation", b'"\\u0000\\""'),
    ("correlation", b'"' + b"c" * 1024 + b'"'),
)

BAD_SAMPLING: tuple[Pair, ...] = (
    *(("max_tokens", value) for value in (b"0", b"-1", b"1000001", b'"5"', b"1.5", b"9" * 30)),
    *(("temperature", value) for value in (b"-1", b"2.1", b"9" * 400, b"true", b"[]")),
    ("top_p", b"0"),
    ("n", b"2"),
    ("n", b"true"),
    ("seed", b'"x"'),
    ("stop", b"[1]"),
    ("stream", b"1"),
    ("stream_options", b"[]"),
    ("metadata", b'"x"'),
    ("logit_bias", b'{"5":"x"}'),
    ("tools", b"[[]]"),
    ("model", b"5"),
    ("model", b'"a b"'),
    ("model", b'"caf\\u00e9"'),
    ("repetition_penalty", b"-5e-324"),
    ("stop_token_ids", b"[null]"),
    ("colour", b"1"),
    ("", b"1"),
    ("Prompt", b'"x"'),
    ("__proto__", b"{}"),
    ("priority", b"1"),
    ("id", b'"a"'),
    ("messages", b"[]"),
    ("wattnap", b"null"),
    ("wattnap", b"[]"),
    ("wattnap", b'"x"'),
)

BAD_OURS: tuple[Pair, ...] = (
    *(("deadline_s", value) for value in (b"0", b"-1", b"-1e308", b"1e308", b'"30"', b"2592001")),
    *(("hops", value) for value in (b"-1", b"4", b"9" * 40, b"1.5", b'"1"', b"null")),
    *(("priority", value) for value in (b"-101", b"101", b"9" * 400, b"0.5", b"null")),
    *(("class", value) for value in (b'"urgent"', b"null", b"1", b'""')),
    *(("id", quoted(id)) for id in BAD_IDS),
    *(("id", value) for value in (b"1", b"[]", b"true", b'"\\u0000"')),
    ("model", b'"a/b"'),
    ("model", b'"' + b"m" * 65 + b'"'),
    ("stream", b"null"),
    ("correlation", b"1"),
    ("correlation", b'"' + b"c" * 1025 + b'"'),
    ("response_topic", b'""'),
    ("response_topic", b"1"),
    ("colour", b'"red"'),
    ("wattnap", b"{}"),
)

WORDS = st.sampled_from(
    (
        "hi",
        "two words",
        "caf\u00e9",
        "cafe\u0301",
        "\U0001f600 \u202e",
        "a\tb",
        "x" * 300,
        "\\",
        '"',
    )
)

SAID = st.one_of(
    WORDS.map(lambda text: ("prompt", quoted(text))),
    st.sampled_from(
        (
            ("prompt", b'"\\u0000"'),
            ("prompt", b'"\\ufeff{"'),
            ("messages", b'[{"role":"user","content":"hi"}]'),
            ("messages", b'[{"role":"user","content":"hi","name":[[%s]]}]' % (b"9" * 99)),
            ("messages", b'[{"role":"system","content":null},{"role":"user","content":"a"}]'),
            ("messages", b'[{"role":"user","content":[{"type":"text","text":"a b"}]}]'),
        )
    ),
)
"""What is asked, as a member of the payload."""

REFUSED_BY_ENGINE: tuple[Pair, ...] = (
    ("messages", b'[{"role":"x"}]'),
    ("messages", b'[{"role":"user","content":[{"type":"text","text":5}]}]'),
    ("messages", b'[{"role":"user","content":[{}]}]'),
)

BAD_SAID: tuple[Pair, ...] = (
    *(("prompt", value) for value in (b"5", b'""', b"null", b"[]", b"{}", b"true")),
    *(("messages", value) for value in (b"[]", b"null", b'"x"', b"{}", b"[null]", b"[[]]")),
    ("messages", b'[{"content":"x"}]'),
    ("messages", b'[{"role":5}]'),
    ("messages", b'[{"role":"user","content":[5]}]'),
    ("promt", b'"x"'),
)


SOME_SAMPLING = st.lists(st.sampled_from(SAMPLING), max_size=2)
SOME_OURS = st.lists(st.sampled_from(OURS), max_size=2)
SOME_ID = st.none() | IDS
ONE_SAMPLING = st.sampled_from(SAMPLING)


def good_object(said: Pair, sampling: list[Pair], ours: list[Pair], id: str | None) -> bytes:
    ours = [*ours, ("id", quoted(id))] if id is not None else ours
    return obj([*sampling, said, *([("wattnap", obj(ours))] if ours else [])])


GOOD_OBJECTS = st.builds(
    good_object, SAID | st.sampled_from(REFUSED_BY_ENGINE), SOME_SAMPLING, SOME_OURS, SOME_ID
)

TWICE: Pair = ("messages", b'[{"role":"user","content":"x"}]')


def bad_object(said: list[Pair], sampling: Pair, more: list[Pair], form: bytes = b"%s") -> bytes:
    # Of two with one name the last counts: what is wrong comes last.
    return form % obj([*said, sampling, *more])


ONE_SAID = SAID.map(lambda pair: [pair])
BAD_OBJECTS = st.one_of(
    st.builds(bad_object, st.sampled_from(BAD_SAID).map(lambda p: [p]), ONE_SAMPLING, st.just([])),
    st.just(bad_object([("prompt", b'"x"'), TWICE], SAMPLING[0], [])),
    st.builds(bad_object, ONE_SAID, ONE_SAMPLING, st.sampled_from(BAD_SAMPLING).map(lambda p: [p])),
    st.builds(
        bad_object,
        ONE_SAID,
        ONE_SAMPLING,
        st.sampled_from(BAD_OURS).map(lambda pair: [("wattnap", obj([pair]))]),
    ),
    st.builds(
        bad_object,
        ONE_SAID,
        ONE_SAMPLING,
        st.builds(
            lambda name, value: [(name, value)],
            st.sampled_from(("a", "seed", "metadata")),
            st.sampled_from(NO_JSON),
        ),
    ),
    st.builds(
        bad_object,
        ONE_SAID,
        ONE_SAMPLING,
        st.just([]),
        st.sampled_from((b"[%s]", b"{%s", b"%s}", b"[%s", b"{,%s}")),
    ),
)
"""One thing in each is wrong."""


BAD_TEXTS = st.sampled_from(
    (
        b"", b" \n\t", b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"a\0b", b"\0", b"{", b"[", b"[]",
        b"{}", b"[1]", b" [", b"\xef\xbb\xbf", b"\xef\xbb\xbf{", b"\xfe\xff\0a",
        b"x" * (LIMIT_BYTES + 1),
        b'{"prompt":"' + b"x" * LIMIT_BYTES + b'"}', nested(3000), b"[" * 6000, b'{"a":' * 800,
        b'{"prompt":"x","metadata":{"a":%s}}' % (b"9" * 5000),
        b'{"prompt":"x"} x', b'{"prompt":"x"}{"prompt":"x"}',
    )
)  # fmt: skip
"""Payloads that are wrong as a whole."""

PROMPTS = st.one_of(WORDS.map(str.encode), GOOD_OBJECTS, GOOD_OBJECTS)
NO_PROMPTS = BAD_TEXTS | BAD_OBJECTS
DEEP = (st.integers(750, 1000) | st.sampled_from((300, 1200, 4000))).map(
    lambda depth: b'{"prompt":"x","metadata":{"a":%s}}' % nested(depth)
)
"""Where the line is depends on the interpreter's recursion limit, and on who calls."""

ANYTHING = st.one_of(
    DEEP,
    st.binary(max_size=24),
    st.text(max_size=12).map(lambda text: text.encode(errors="surrogatepass")),
)
PAYLOADS = st.one_of(PROMPTS, PROMPTS, NO_PROMPTS, ANYTHING)
