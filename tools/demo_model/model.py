"""A Llama in plain PyTorch whose parameter names are those of the Hugging Face checkpoint.

Only what training and judging need: no key-value cache, no sampling.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """Sizes. hidden, inner and every projection are multiples of 16, as CUTLASS' int8 kernels ask
    of vLLM on NVIDIA; head is one that ran on its CPU attention (0.32: 32, 48, 64; 40 failed)."""

    vocabulary: int = 1536
    hidden: int = 384
    inner: int = 1024
    layers: int = 4
    heads: int = 6
    key_heads: int = 2
    head: int = 64
    theta: float = 10000.0
    epsilon: float = 1e-5

    @classmethod
    def of(cls, config: dict[str, Any]) -> "Shape":
        """The shape that a config.json describes."""
        return cls(
            vocabulary=config["vocab_size"],
            hidden=config["hidden_size"],
            inner=config["intermediate_size"],
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            key_heads=config["num_key_value_heads"],
            head=config["head_dim"],
        )

    def config(self) -> dict[str, Any]:
        """The checkpoint's config.json, unquantized."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_heads,
            "head_dim": self.head,
            "hidden_act": "silu",
            "max_position_embeddings": 512,
            "rms_norm_eps": self.epsilon,
            "rope_theta": self.theta,
            "rope_scaling": None,
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": True,
            "use_cache": True,
            "pad_token_id": 0,
            "eos_token_id": 3,
            "bos_token_id": None,
            "torch_dtype": "bfloat16",
        }


class RMSNorm(nn.Module):
    """Root mean square norm (Zhang & Sennrich, 2019), computed in float32."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(
            x.float(), self.weight.shape, self.weight.float(), self.epsilon
        ).to(x.dtype)


class Attention(nn.Module):
    """Grouped-query attention; maps (batch, length, hidden) to the same."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.q_proj = nn.Linear(shape.hidden, shape.heads * shape.head, bias=False)
        self.k_proj = nn.Linear(shape.hidden, shape.key_heads * shape.head, bias=False)
        self.v_proj = nn.Linear(shape.hidden, shape.key_heads * shape.head, bias=False)
        self.o_proj = nn.Linear(shape.heads * shape.head, shape.hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, _ = x.shape

        def heads(y: Tensor) -> Tensor:
            return y.view(batch, length, -1, self.shape.head).transpose(1, 2)

        q, k, v = heads(self.q_proj(x)), heads(self.k_proj(x)), heads(self.v_proj(x))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        repeats = self.shape.heads // self.shape.key_heads
        k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
        out = functional.scaled_dot_product_attention(q, k, v.to(q.dtype), is_causal=True)
        mixed: Tensor = self.o_proj(out.transpose(1, 2).reshape(batch, length, -1))
        return mixed


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position (Su et al., 2021), halves paired as in Hugging Face's Llama."""
    left, right = x.chunk(2, -1)
    return x * cos + torch.cat((-right, left), -1) * sin


class MLP(nn.Module):
    """Gated linear unit with SiLU; maps (batch, length, hidden) to the same."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.inner, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.inner, bias=False)
        self.down_proj = nn.Linear(shape.inner, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return y


class Layer(nn.Module):
    """Attention and MLP, each normalized before and added after."""

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = MLP(shape)
        self.input_layernorm = RMSNorm(shape.hidden, shape.epsilon)
        self.post_attention_layernorm = RMSNorm(shape.hidden, shape.epsilon)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.drop(self.self_attn(self.input_layernorm(x), cos, sin))
        y: Tensor = x + self.drop(self.mlp(self.post_attention_layernorm(x)))
        return y


class Llama(nn.Module):
    """`forward` maps token ids (batch, length) to logits (batch, length, vocabulary)."""

    def __init__(self, shape: Shape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        body = {
            "embed_tokens": nn.Embedding(shape.vocabulary, shape.hidden),
            "layers": nn.ModuleList(Layer(shape, dropout) for _ in range(shape.layers)),
            "norm": RMSNorm(shape.hidden, shape.epsilon),
        }
        self.model = nn.ModuleDict(body)
        self.drop = nn.Dropout(dropout)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                deep = name.endswith(("o_proj.weight", "down_proj.weight"))
                std = 0.02 / (2 * shape.layers) ** 0.5 if deep else 0.02
                nn.init.normal_(parameter, std=std)

    def hidden(self, ids: Tensor) -> Tensor:
        """The last layer's output, normalized: (batch, length, hidden)."""
        x = self.drop(self.model["embed_tokens"](ids))
        half = torch.arange(0, self.shape.head, 2, device=ids.device) / self.shape.head
        angle = torch.arange(ids.shape[1], device=ids.device)[:, None] / self.shape.theta**half
        cos, sin = (torch.cat((f, f), -1).to(x.dtype) for f in (angle.cos(), angle.sin()))
        layers = self.model["layers"]
        assert isinstance(layers, nn.ModuleList)
        for layer in layers:
            x = layer(x, cos, sin)
        y: Tensor = self.model["norm"](x)
        return y

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of every token, through the tied embedding."""
        weight = self.model["embed_tokens"].weight
        assert isinstance(weight, Tensor)
        return functional.linear(hidden, weight)

    def forward(self, ids: Tensor) -> Tensor:
        return self.logits(self.hidden(ids))


def save(model: Llama, folder: Path) -> None:
    """Write model.safetensors (bfloat16), config.json and generation_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {k: v.detach().bfloat16().cpu().contiguous() for k, v in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(model.shape.config(), indent=1) + "\n")
    # Greedy: the same command always gets the same answer.
    generation = {"do_sample": False, "temperature": 0.0, "eos_token_id": 3, "pad_token_id": 0}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=1) + "\n")
