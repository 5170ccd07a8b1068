"""Local time, as the clock on the wall shows it, for whoever reads the log.

The zone is the system's, or what TZ says; a day of 23 or 25 hours is one day.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

from msgspec import Struct

from appliance.clock import iso

EPOCH = datetime.fromtimestamp(0, UTC)


class Span(Struct, frozen=True):
    """From `since` up to `until`, which is not in it. None: as far as there is anything."""

    since: datetime | None = None
    until: datetime | None = None

    def start(self) -> str:
        """As instants are stored; text below that of each, if there is no beginning."""
        return "" if self.since is None else iso(self.since)

    def from_day(self) -> str:
        """As rows of days are stored: where the local day began that `since` lies in."""
        return "" if self.since is None else iso(day_start(self.since))

    def from_hour(self) -> str:
        """As rows of hours are stored: where the local hour began that `since` lies in."""
        return "" if self.since is None else iso(hour_start(self.since))

    def end(self) -> str:
        """Text above that of every instant, if there is no end."""
        return "~" if self.until is None else iso(self.until)

    def whole_days(self) -> Span:
        """The same, from the beginning of its first day on."""
        return Span(None if self.since is None else day_start(self.since), self.until)


def local(at: str) -> datetime:
    """A stored instant. Raises ValueError if it is none."""
    return datetime.fromisoformat(at).astimezone()


def hour_start(at: datetime) -> datetime:
    here = at.astimezone()
    return here - timedelta(minutes=here.minute, seconds=here.second, microseconds=here.microsecond)


def day_start(at: datetime) -> datetime:
    return datetime.combine(at.astimezone().date(), time()).astimezone()


def days_ago(now: datetime, days: int) -> datetime:
    """The same time on the wall, so many days before; never before 1970."""
    here = now.astimezone().replace(tzinfo=None)
    if days > (here.date() - EPOCH.date()).days:
        return EPOCH
    return (here - timedelta(days=days)).astimezone()
