"""What the demo tells: three prompts, two wakes, two rests."""

from __future__ import annotations

from typing import Protocol

from appliance.demo.narrator import Narrator
from appliance.demo.wire import Heard, Told, Wire
from appliance.errors import CommandError, WakeFailed
from appliance.home_action import describe

PROMPTS = (
    ("first", "It rests. This prompt wakes it", "dim the bedroom lamp to thirty percent"),
    ("second", "It is awake. This one waits for no wake", "is the front door locked?"),
    ("third", "It has rested. This one wakes it again", "remind me in an hour and a half"),
)
MAX_TOKENS = 48
RESTS = {
    "light": "the engine sleeps, and the GPU's memory is free",
    "parked": "the engine has left the GPU, and waits in memory",
    "stopped": "the engine has ended; what starts the next one quickly waits in memory",
    "off": "the engine has ended, nothing of it is left in memory",
}


class NotAnswered(CommandError):
    """A prompt of the demo ended without an answer."""

    code = "demo_answer"


class Found(Protocol):
    """Where the story writes down what it has seen."""

    answers: list[dict[str, object]]
    rests: int
    engine: dict[str, object]


class Story:
    """Publishes, listens, and narrates. Everything it says, it has heard over MQTT."""

    def __init__(
        self, wire: Wire, narrator: Narrator, found: Found, *, idle_timeout_s: float
    ) -> None:
        self._wire, self._narrator, self._found = wire, narrator, found
        self._idle_timeout_s = idle_timeout_s
        self._state = self._depth = ""
        self._pids: list[int] = []

    async def tell(self) -> None:
        """Return when all are answered and it rests again.

        Raises WakeFailed if the engine does not start, NotAnswered if it does
        not answer, WireLost if the broker is gone.
        """
        self._narrator.waits("the daemon starts")
        while (await self._hear()).told.get("word") != "online":
            pass
        first, second, third = PROMPTS
        self._found.engine = {"version": None, "pids": self._pids}
        await self._ask(*first)
        await self._ask(*second)
        await self._rest()
        await self._ask(*third)
        await self._rest()

    async def _ask(self, id: str, title: str, prompt: str) -> None:
        self._narrator.title(title)
        topic = await self._wire.publish(id, prompt, MAX_TOKENS)
        self._narrator.note(f'publish {topic}  "{prompt}"')
        said = ""
        while True:
            heard = await self._hear()
            if heard.kind == "error":
                raise NotAnswered(f"the prompt was refused: {heard.told['error']['message']}")
            if heard.id != id:
                continue
            match heard.kind:
                case "status":
                    self._tell_progress(heard.told)
                case "part":
                    said = said + heard.told["text"] if heard.told["index"] else heard.told["text"]
                    self._narrator.part(heard.told["text"])
                case "answer":
                    self._keep(heard.told, said)
                    return

    def _keep(self, answer: Told, said: str) -> None:
        if error := answer.get("error"):
            raise NotAnswered(f"{answer['id']}: {error['message']}")
        # The last parts may be overtaken by the whole.
        rest = answer["text"].removeprefix(said)
        if rest and len(rest) < len(answer["text"]):
            self._narrator.part(rest)
        if (action := describe(answer["text"])) is not None:
            self._narrator.note(f"a home would: {action}")
        self._narrator.took(answer)
        timing = answer["timing"]
        kept = {"id": answer["id"], "text": answer["text"], "wake_s": timing["wake_s"]}
        self._found.answers.append({**kept, "ttft_s": timing["ttft_s"]})

    def _tell_progress(self, told: Told) -> None:
        match told["state"]:
            case "waking":
                expected_s = told.get("expected_s")
                about = f", about {expected_s:.0f} s" if expected_s else ""
                self._narrator.waits(f"waking{about}")
            case "queued":
                self._narrator.note("accepted: it is on disk, and will be answered")

    async def _rest(self) -> None:
        self._narrator.title("Nobody asks")
        self._narrator.waits(f"idle; it goes to rest after {self._idle_timeout_s:.0f} s")
        while self._state != "asleep":
            await self._hear()
        self._found.rests += 1
        self._narrator.note(f"it rests: {RESTS[self._depth]}")

    async def _hear(self) -> Heard:
        heard = await self._wire.heard()
        if heard.kind == "state":
            self._state, self._depth = heard.told["state"], heard.told["depth"]
            self._pids.extend(pid for pid in heard.told["pids"] if pid not in self._pids)
            if heard.told.get("version"):
                self._found.engine["version"] = heard.told["version"]
            if self._state == "failed":
                raise WakeFailed(heard.told["failure"] or "no reason was told", 0.0)
        return heard
