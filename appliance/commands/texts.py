"""Words of an argument that leave this program: for a daemon or a database, which take UTF-8."""

from __future__ import annotations

import click


class Text(click.ParamType[str]):
    """What can be written as UTF-8; other bytes are wrong usage. File names may be any bytes."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:  # Python keeps such bytes as lone surrogates (PEP 383)
            self.fail(f"{value!a} is not UTF-8 text", param, ctx)
        return value


TEXT = Text()
