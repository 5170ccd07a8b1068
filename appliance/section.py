"""What every table of the configuration has in common."""

from __future__ import annotations

from msgspec import Struct

FOR_EVER_S = 1e9
"""Thirty-one years. Dates can be reckoned with that; with infinity they cannot."""


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file. An unknown key is an error: it is a typo."""
