"""A worker that, on a CPU, forgets its weights when it sleeps, as one on a GPU does at level 2."""

import os
from pathlib import Path

import torch
from wattnap_engine.worker import Extension


class Forgetful(Extension):  # type: ignore[misc]  # only the engine's Python has it
    """Zeroes its parameters. With a file at TEST_NO_IMAGE it will not take them from the image."""

    def wattnap_save(self, path: str, budget_s: float) -> str:
        why: str = super().wattnap_save(path, budget_s)
        for parameter in self.wattnap_parameters():
            parameter.zero_()
        return why

    def wattnap_load(self) -> str:
        assert not any(parameter.any() for parameter in self.wattnap_parameters())

        if Path(os.environ["TEST_NO_IMAGE"]).exists():
            return "told so"
        why: str = super().wattnap_load()
        return why

    def wattnap_parameters(self) -> list[torch.Tensor]:
        return [tensor.data for tensor in self.model_runner.get_model().parameters()]
