"""Both error trees: each error has its base, its words and (ours) its own code."""

from __future__ import annotations

import inspect
from collections import Counter

from appliance import errors
from drivers import errors as driver_errors


def classes(module: object) -> list[type[Exception]]:
    return [c for _, c in inspect.getmembers(module, inspect.isclass) if issubclass(c, Exception)]


def test_every_error_of_ours_descends_from_one_base() -> None:
    """With a docstring, a unique code and a place in the tree at the top of the file."""
    found = classes(errors)
    assert all(issubclass(c, errors.ApplianceError) and c.__doc__ for c in found)
    codes = Counter(c.code for c in found if issubclass(c, errors.ApplianceError))
    assert max(codes.values()) == 1

    assert errors.__doc__ is not None
    for c in found:
        assert c.__name__ in errors.__doc__


def test_a_message_quotes_so_much_and_no_more() -> None:
    """A megabyte that was refused does not come back."""
    told = errors.BadRequest("id: " + "x" * 1_000_000).as_dict()

    assert told["message"].startswith("id: xxx")
    assert len(told["message"]) <= errors.MESSAGE_CHARS + 2


def test_every_driver_error_descends_from_one_base() -> None:
    """With a docstring and a place in the tree."""
    assert driver_errors.__doc__ is not None
    for c in classes(driver_errors):
        assert issubclass(c, driver_errors.DriverError)
        assert c.__doc__
        assert c.__name__ in driver_errors.__doc__
