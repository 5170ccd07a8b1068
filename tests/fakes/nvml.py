"""NVML in memory: answers, refuses, and remembers that it was opened."""

from __future__ import annotations

from typing import Any

from tests.trees import INFORMATION

UUID = INFORMATION.split("GPU UUID:")[1].split()[0]


class Nvml:
    """Stands in for pynvml. `answers`: function's name without "nvmlDeviceGet" -> what it returns.

    What has no answer is not supported.
    """

    NVML_CLOCK_SM = 1

    class NVMLError(Exception):
        """As pynvml's. `value` is its code (nvml.h)."""

        def __init__(self, value: int, said: str) -> None:
            super().__init__(said)
            self.value = value

    def __init__(self, opens: bool = True, **answers: Any) -> None:
        self.opens = opens
        self.answers = answers
        self.calls: list[str] = []

    def nvmlInit(self) -> None:  # noqa: N802  # its name
        self.calls.append("Init")
        if not self.opens:
            raise self.NVMLError(9, "Driver Not Loaded")

    def nvmlShutdown(self) -> None:  # noqa: N802  # its name
        self.calls.append("Shutdown")

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvmlDeviceGet"):
            raise AttributeError(name)

        def answer(*_: Any) -> Any:
            short = name.removeprefix("nvmlDeviceGet")
            self.calls.append(short)
            if short.startswith("HandleBy"):
                return "handle"
            if short == "UUID":
                return UUID
            if short not in self.answers:
                raise self.NVMLError(3, "Not Supported")
            return self.answers[short]

        return answer
