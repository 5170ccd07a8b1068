"""Why what somebody wrote is not taken: which field, what may stand there, and what does.

For files, every door and the command line. msgspec decides whether something is taken; what
it says then is for programmers. So the first value that its own type refuses is looked for,
and told by that type. Pure.
"""

from __future__ import annotations

import json
import types as python
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Raw, Struct
from msgspec import inspect as types

from appliance.spelling import span, toml_key, unit

MOST_CHARS = 60
"""Of a value or a name that is quoted."""

Hint = Any
"""A type, as annotations have it."""


class Refusal(NamedTuple):
    """field  its path, as the sender would write it; None: it is about no single one"""

    message: str
    field: str | None = None


class Form(Struct, frozen=True, kw_only=True):
    """How those speak who wrote it.

    unknown  what a field is called that there is not
    table    something with fields of its own; `tables`: several
    section  where a field stands; `top`: outside of all sections
    prefix   before each name
    strict   text is no number
    """

    unknown: str = "unknown field"
    table: str = "an object"
    tables: str = "objects"
    section: str = "in `{}`"
    top: str = "at the top"
    prefix: str = ""
    strict: bool = True


JSON = Form()
TOML = Form(
    unknown="no such setting:",
    table="a table",
    tables="tables",
    section="in [{}]",
    top="at the top of the file, before the first table",
)


def of_json(error: Exception, raw: bytes, kind: Hint) -> Refusal:
    """`raw` could not be decoded as `kind`, for `error`."""
    try:
        return of_value(error, msgspec.json.decode(raw), kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as none:
        return Refusal(f"not JSON: {str(none).partition(' - at ')[0]}")


def of_toml(error: Exception, raw: bytes, kind: Hint) -> Refusal:
    """`raw` could not be decoded as `kind`, for `error`."""
    try:
        return of_value(error, msgspec.toml.decode(raw), kind, TOML)
    except (msgspec.DecodeError, UnicodeDecodeError) as none:
        # tomllib's word for a value that is none, such as a word without quotes
        hint = "; text stands in quotes" if str(none).startswith("Invalid value") else ""
        return Refusal(f"not TOML: {none}{hint}")


def of_value(error: Exception, value: Any, kind: Hint, form: Form = JSON) -> Refusal:
    """`value`, of plain types, could not be converted to `kind`, for `error`."""
    if isinstance(error.__cause__, ValueError):  # a check of our own: it names the field itself
        return Refusal(str(error.__cause__))
    return _Search(kind, form).within(value, kind, "", "") or Refusal(str(error))


class _Search:
    """For the first value that is refused. `kind`: of the whole."""

    def __init__(self, kind: Hint, form: Form) -> None:
        self._kind, self._form = kind, form

    def within(self, value: Any, hint: Hint, path: str, name: str) -> Refusal | None:
        """Of a value that is refused, at `path`; `name` is that of the nearest field.

        None: nothing wrong is found in it.
        """
        options = list(_options(hint))
        structs = [option for option in options if _is_struct(option)]
        if structs and isinstance(value, dict):
            return self._in_struct(value, structs, path)
        for option in options:
            of = get_args(option)
            if isinstance(value, dict) and get_origin(option) is dict:
                for key, item in value.items():
                    if not self._taken(item, of[1]):
                        at = f"{path}.{toml_key(key[:MOST_CHARS])}"
                        return self.within(item, of[1], at, name)
                    if not self._taken(key, of[0]):
                        return self._wrong(key, of[0], path, "")
            if isinstance(value, list) and _is_list(option):
                for index, item in enumerate(value):
                    if not self._taken(item, of[0]):
                        return self.within(item, of[0], f"{path}[{index}]", name)
        return self._wrong(value, hint, path, name)

    def _in_struct(self, value: dict[str, Any], structs: list[Any], path: str) -> Refusal | None:
        tag = structs[0].__struct_config__.tag_field
        by_tag = {struct.__struct_config__.tag: struct for struct in structs}
        said = value.get(tag) if tag else None
        struct = by_tag.get(said) if said is None or isinstance(said, str) else None
        if tag and struct is None:
            known = Literal[tuple(by_tag)]  # type: ignore[valid-type]  # it is one as it runs
            if tag in value:
                return self._wrong(said, known, _below(path, tag), tag)
            return self._missing(known, _below(path, tag), tag)
        assert struct is not None
        fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
        for key, item in value.items():
            if key in fields:
                if not self._taken(item, fields[key].type):
                    return self.within(item, fields[key].type, _below(path, key), key)
            elif key != tag and struct.__struct_config__.forbid_unknown_fields:
                return self._unknown(key, struct, path)
        for key, field in fields.items():
            if key not in value and field.default is field.default_factory is NODEFAULT:
                return self._missing(field.type, _below(path, key), key)
        return None

    def _missing(self, hint: Hint, path: str, name: str) -> Refusal:
        return self._refusal(path, f"it is missing; expected {self._wanted(hint, name, None)}")

    def _wrong(self, value: Any, hint: Hint, path: str, name: str) -> Refusal:
        told = f"expected {self._wanted(hint, name, value)}, got {self._shown(value, hint)}"
        if instead := next(self._instead(value, hint), ""):
            told += f"; write {instead}"
        return self._refusal(path, told)

    def _unknown(self, key: str, struct: type[Struct], path: str) -> Refusal:
        from difflib import get_close_matches

        key = key[:MOST_CHARS]
        places = dict(_sections(self._kind, ""))
        there = [place for place, names in places.items() if key in names]
        own = {name: _below(path, name) for name in _names(struct)}
        every = {name: _below(place, name) for place, names in places.items() for name in names}
        told = f"{self._form.unknown} `{self._form.prefix}{_below(path, key)}`"
        if there:
            told += f" (there is one {' or '.join(map(self._place, there))})"
        else:
            for known in (own, every):
                if near := get_close_matches(key, known, 1):
                    told += f" (did you mean `{self._form.prefix}{known[near[0]]}`?)"
                    break
        return Refusal(told, _below(path, key))

    def _place(self, section: str) -> str:
        return self._form.section.format(section) if section else self._form.top

    def _refusal(self, path: str, told: str) -> Refusal:
        if not path:
            return Refusal(told)
        return Refusal(f"{self._form.prefix}{path}: {told}", path)

    def _taken(self, value: Any, hint: Hint, *, strict: bool = True) -> bool:
        return _converted(value, hint, strict=strict and self._form.strict) is not _NOTHING

    def _instead(self, value: Any, hint: Hint) -> Iterator[str]:
        """What may have been meant, as it would be written."""
        if not isinstance(value, str | int | float) or _is_huge(value):
            return
        meant: list[Any] = [[value], _converted(value, hint, strict=False)]
        if type(value) in {int, float}:
            meant.append(str(value))
        for other in meant:
            if other is None or not self._taken(other, hint):
                continue
            whole = isinstance(other, float) and other.is_integer()
            told = json.dumps(int(other) if whole else other, ensure_ascii=False)
            if len(told) <= MOST_CHARS:
                yield told

    def _wanted(self, hint: Hint, name: str, found: Any) -> str:
        """What may stand there, instead of what is found."""
        kind = types.type_info(hint)
        options = kind.types if isinstance(kind, types.UnionType) else (kind,)
        return _told(told for option in options for told in self._choices(option, name, found))

    def _choices(self, kind: types.Type, name: str, found: Any) -> Iterator[str]:
        match kind:
            case types.LiteralType(values=values):
                yield from (json.dumps(value) for value in values)
            case types.BoolType():
                yield from ("true", "false")
            case types.IntType() | types.FloatType():
                noun = "a whole number" if isinstance(kind, types.IntType) else "a number"
                more = [word for word in (unit(name), span(kind)) if word not in {"", "number"}]
                yield f"{noun} ({', '.join(more)})" if more else noun
            case types.StrType(min_length=1, max_length=None) if isinstance(found, str):
                yield "text that is not empty"
            case types.StrType():
                quotes = "" if isinstance(found, str) else " in quotes"
                yield span(kind).replace("text", f"text{quotes}", 1)
            case types.ListType() | types.VarTupleType():
                several = isinstance(kind.item_type, types.StructType | types.DictType)
                told = f"a list of {self._form.tables}" if several else f"a {span(kind)}"
                yield f"{told}, not empty" if kind.min_length else told
            case types.DictType() | types.StructType():
                yield self._form.table
            case types.RawType():  # a request: text, or a body
                yield from ("text in quotes", self._form.table)
            case types.NoneType():
                pass  # whoever means that leaves it out
            case _:
                yield span(kind)

    def _shown(self, value: Any, hint: Hint) -> str:
        """Never what may be a prompt: this goes into the log."""
        match value:
            case dict():
                return self._form.table
            case list():
                return "a list" if value else "an empty list"
            case str() if any(map(_is_struct, _parts(hint))):
                return "text"
            case str() if len(value) > MOST_CHARS:
                return f"{len(value)} characters, {json.dumps(value[:MOST_CHARS])}…"
            case str() | bool() | None:
                return json.dumps(value, ensure_ascii=False)
        return "a number of more than 64 bits" if _is_huge(value) else str(value)


_NOTHING = object()


def _converted(value: Any, hint: Hint, *, strict: bool) -> Any:
    """_NOTHING if it is refused."""
    if hint is Raw:
        return value
    try:
        return msgspec.convert(value, hint, strict=strict)
    except (msgspec.ValidationError, RecursionError):
        return _NOTHING


def _is_huge(value: Any) -> bool:
    """A number that has no end on a line, or that Python would not even write."""
    return isinstance(value, int) and value.bit_length() > 64


def _told(choices: Iterator[str]) -> str:
    *most, last = dict.fromkeys(choices)
    return f"{', '.join(most)} or {last}" if most else last


def _options(hint: Hint) -> Iterator[Hint]:
    """The types of a union, without what is annotated."""
    origin: Any = get_origin(hint)
    if origin is Annotated:
        yield from _options(get_args(hint)[0])
    elif origin in {Union, python.UnionType}:
        for option in get_args(hint):
            yield from _options(option)
    else:
        yield hint


def _parts(hint: Hint) -> Iterator[Hint]:
    """The options, and those of their items."""
    for option in _options(hint):
        yield option
        if _is_list(option):
            yield from _parts(get_args(option)[0])


def _is_list(hint: Hint) -> bool:
    origin: Any = get_origin(hint)
    return origin in {list, tuple}


def _is_struct(hint: Hint) -> bool:
    return isinstance(hint, type) and issubclass(hint, Struct)


def _names(struct: type[Struct]) -> list[str]:
    return list(struct.__struct_encode_fields__)


def _sections(kind: Hint, path: str) -> Iterator[tuple[str, list[str]]]:
    """Path and names of each struct, the whole one first."""
    if not _is_struct(kind):
        return
    yield path, _names(kind)
    for field in msgspec.structs.fields(kind):
        yield from _sections(field.type, _below(path, field.encode_name))


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
