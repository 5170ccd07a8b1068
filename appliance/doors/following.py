"""Which news whoever waits for a durable request wants to hear."""

from __future__ import annotations

from appliance.notices import Notice, Part, Progress

ENDED = ("done", "failed")


class Followed:
    """One request's: while its id is unknown, all of its client."""

    def __init__(self, door: str, client: str, id: str | None) -> None:
        self.id = id
        self._sender = (door, client)

    def wants(self, notice: Notice) -> bool:
        return (
            isinstance(notice, Progress | Part)
            and (notice.door, notice.client) == self._sender
            and self.id in {None, notice.id}
        )
