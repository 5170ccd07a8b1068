"""A worker on a GPU of which others take whatever becomes free, at once."""

from typing import Any

from wattnap_engine.worker import Extension


class Crowded(Extension):  # type: ignore[misc]  # only the engine's Python has it
    """The device never shows free memory. What it holds itself it knows all the same."""

    def wattnap_memory(self) -> dict[str, Any]:
        return {**super().wattnap_memory(), "free_bytes": 0}

    def wattnap_save(self, path: str, budget_s: float) -> str:
        assert self.wattnap_held() >= self.wattnap_memory()["pool_bytes"] / 2  # it is awake

        why: str = super().wattnap_save(path, budget_s)
        return why
