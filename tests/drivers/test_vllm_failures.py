"""The lines are what vLLM 0.32.0 said on a CPU, or what the sources of a version would say."""

from __future__ import annotations

import pytest

from drivers.vllm_failures import ADVICE, SHORT_OF_MEMORY, SIGNS, explain

CORE = "(EngineCore pid=17295) ERROR 11-21 15:22:27 [core.py:1510] "
WORKER = "(Worker pid=17953) ERROR 11-21 15:23:21 [multiproc_executor.py:1063] "
ENDING = [
    (
        "RuntimeError: Engine core initialization failed. See root cause above. "
        "Failed core proc(s): {'EngineCore': 1}"
    ),
    "nanobind: leaked 4 instances!",
]

SAID = {
    # 0.32.0, on a CPU.
    "cache of 64 KiB": (
        "cache_too_small",
        CORE + "ValueError: To serve at least one request with the model's max seq len (2000), "
        "(0.0 GiB KV cache is needed, which is larger than the available KV cache memory "
        "(0.0 GiB). Based on the available memory, the estimated maximum model length is 384. "
        "Try increasing `gpu_memory_utilization` (which also controls CPU memory",
    ),
    "cache of 100 bytes": (
        "cache_too_small",
        CORE + "ValueError: No available memory for the cache blocks. Try increasing "
        "`gpu_memory_utilization` when initializing the engine (this flag also controls CPU",
    ),
    "cache of a petabyte": (
        "out_of_memory",
        WORKER + "ValueError: Available memory on node 0 (6.28/7.96 GiB) on kv cache allocation "
        "is less than requested memory for kv (931322.57 GiB). Decrease --kv-cache-memory-bytes,",
    ),
    "nearly all memory": (
        "memory_taken",
        (
            "(VllmWorker-0 pid=18066) ERROR 11-21 15:23:46 [multiproc_executor.py:953] ValueError: "
            "Available memory on node 0 (6.29/7.96 GiB) on startup is less than desired CPU memory "
            "utilization (0.999, 7.96 GiB). On the CPU backend, the `--gpu-memory-utilization` flag"
        ),
    ),
    "unknown flag": ("bad_flag", "entry.py: error: unrecognized arguments: --no-such-flag"),
    "flag's value": (
        "bad_flag",
        (
            "entry.py: error: argument --scheduling-policy: invalid choice: 'never' (choose from "
            "'fcfs', 'priority')"
        ),
    ),
    "no such folder": (
        "no_model",
        (
            "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or "
            "'namespace/repo_name': '/nothing'. Use `repo_type` argument if needed."
        ),
    ),
    "empty folder": (
        "no_model",
        "  Value error, Invalid repository ID or local directory specified: '/empty'.",
    ),
    "no weights": (
        "no_model",
        (
            "(Worker pid=16269) ERROR 11-21 15:20:46 [multiproc_executor.py:953] RuntimeError: "
            "Cannot find any model weights with `/noweights`"
        ),
    ),
    "weights cut short": (
        "bad_model",
        (
            "(Worker pid=16577) ERROR 11-21 15:21:10 [multiproc_executor.py:953] "
            "safetensors._safetensors_rust.SafetensorError: Error while deserializing header: "
            "incomplete metadata, file not fully covered"
        ),
    ),
    "architecture": (
        "bad_model",
        (
            "  Value error, Model architectures ['NoSuchForCausalLM'] are not supported for now. "
            "Supported architectures: dict_keys(['AfmoeForCausalLM', 'ApertusForCausalLM',"
        ),
    ),
    "model type": (
        "bad_model",
        (
            "  Value error, The checkpoint you are trying to load has model type `nosuch` but "
            "Transformers does not recognize this architecture. This could be because of an issue"
        ),
    ),
    "quantization": (
        "bad_model",
        "  Value error, Unknown quantization method: gguf. Must be one of ['awq', 'auto_awq',",
    ),
    "not quantized so": ("bad_model", "  Value error, Cannot find the config file for awq [type="),
    "longer than the model": (
        "bad_model",
        (
            "  Value error, User-specified max_model_len (100000) is greater than the derived "
            "max_model_len (max_position_embeddings=4096.0 or model_max_length=None in model's"
        ),
    ),
    "sleep on a CPU": (
        "bad_settings",
        "  Value error, Sleep mode is not supported on current platform. [type=value_error,",
    ),
    # GPU, by the sources of 0.11.0, 0.26.0 and 0.32.0.
    "share, 0.11": (
        "memory_taken",
        CORE + "ValueError: Free memory on device (6.44/11.63 GiB) on startup is less than "
        "desired GPU memory utilization (0.9, 10.47 GiB). Decrease GPU memory utilization or",
    ),
    "share, 0.26": (
        "memory_taken",
        CORE + "ValueError: Free memory on device cuda:0 (6.44/11.63 GiB) on startup is less "
        "than desired GPU memory utilization (0.92, 10.7 GiB). Decrease GPU memory utilization",
    ),
    "cache, 0.11": (
        "cache_too_small",
        CORE + "ValueError: To serve at least one request with the models's max seq len "
        "(131072), (16.00 GiB KV cache is needed, which is larger than the available KV cache "
        "memory (2.10 GiB). Based on the available memory, the estimated maximum model length "
        "is 17200.  Try increasing `gpu_memory_utilization` or decreasing `max_model_len`",
    ),
    "loading": (
        "out_of_memory",
        CORE + "Failed to load model - not enough GPU memory. Try lowering "
        "--gpu-memory-utilization to free memory for weights, increasing --tensor-parallel-size",
    ),
    "warming up": (
        "out_of_memory",
        CORE + "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 "
        "dummy requests. Please try lowering `max_num_seqs` or `gpu_memory_utilization` when",
    ),
    # PyTorch, CUDA, a Jetson, Python.
    "allocating": (
        "out_of_memory",
        CORE + "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.16 GiB. GPU 0 "
        "has a total capacity of 7.75 GiB of which 1.17 GiB is free. Including non-PyTorch "
        "memory, this process has 5.02 GiB memory in use. Of the allocated memory 4.81 GiB is",
    ),
    "an Orin": (
        "out_of_memory",
        CORE + "RuntimeError: NVML_SUCCESS == r INTERNAL ASSERT FAILED at "
        '"/opt/pytorch/c10/cuda/CUDACachingAllocator.cpp":1131, please report a bug to PyTorch.',
    ),
    "driver": (
        "no_device",
        "RuntimeError: The NVIDIA driver on your system is too old (found version 12040). Please",
    ),
    "no GPU": ("no_device", "RuntimeError: No CUDA GPUs are available"),
    "no platform": (
        "no_device",
        (
            "RuntimeError: Failed to infer device type, please set the environment variable "
            "`VLLM_LOGGING_LEVEL=DEBUG` to turn on verbose logging to help debug the issue."
        ),
    ),
    "built for another GPU": (
        "no_device",
        "RuntimeError: CUDA error: no kernel image is available for execution on the device",
    ),
    "CUDA's library": (
        "bad_install",
        "ImportError: libcudart.so.13: cannot open shared object file: No such file or directory",
    ),
    "the driver's library": (
        "no_device",
        "OSError: libcuda.so.1: cannot open shared object file: No such file or directory",
    ),
    "disk": ("disk_full", "OSError: [Errno 28] No space left on device: '/var/lib/x'"),
    "socket": ("place_taken", "OSError: [Errno 98] Address already in use"),
    "another user's": ("not_permitted", "PermissionError: [Errno 13] Permission denied: '/m/x'"),
    "loader": (
        "bad_loader",
        CORE + "ImportError: Please install instanttensor via `pip install vllm[instanttensor]`",
    ),
    # Nothing that we know.
    "else": ("unknown", CORE + "ValueError: too little memory"),
}


@pytest.mark.parametrize("name", SAID)
def test_what_it_says_is_recognised(name: str) -> None:
    """By one line, whatever stands around it; and with it goes what there is to do."""
    kind, line = SAID[name]
    failure = explain(["INFO 11-21 model: /m", line, *ENDING], 2 if kind == "bad_flag" else 1)

    assert failure.kind == kind
    assert failure.said in line
    assert bool(failure.advice) is (kind != "unknown")


def test_every_kind_has_its_sign_its_advice_and_an_example() -> None:
    """None without."""
    kinds = {kind for kind, _ in SAID.values()} - {"unknown"}

    assert kinds == set(SIGNS) == set(ADVICE)
    assert kinds >= SHORT_OF_MEMORY


def test_what_its_numbers_say() -> None:
    """How much was free, and how long a context would have fitted."""
    assert explain([SAID["share, 0.11"][1]], 1).free_share == pytest.approx(6.44 / 11.63)

    cache = explain([SAID["cache, 0.11"][1]], 1)

    assert cache.fits_tokens == 17200
    assert cache.advice.endswith("17200 tokens would fit")


def test_who_else_has_the_memory() -> None:
    """PyTorch names other processes that hold some, and then it may be otherwise next time."""
    alone = SAID["allocating"][1]
    beside = alone.replace("Including", "Process 4711 has 2.50 GiB memory in use. Including")

    assert not explain([alone], 1).others
    assert explain([beside], 1).others


def test_whoever_fails_inside_the_loader_is_the_loader() -> None:
    """Whatever it says; but not who fails after it has loaded."""
    said = [
        CORE + '  File "/e/site-packages/instanttensor/_impl.py", line 171, in select_backend',
        CORE + "RuntimeError: No available backend was found among candidates [MMAP].",
        *ENDING,
    ]
    loaded = ["Loading safetensors using InstantTensor loader: 100% Completed", *said[1:]]

    assert explain(said, 1).kind == "bad_loader"
    assert explain(said, 1).said.startswith("RuntimeError: No available backend")
    assert explain(loaded, 1).kind == "unknown"


def test_a_line_of_code_is_no_explanation() -> None:
    """Of a traceback it is the end that says what was raised."""
    told = "huggingface_hub.errors.LocalEntryNotFoundError: Cannot reach huggingface.co"
    said = [CORE + "    raise LocalEntryNotFoundError(", CORE + told, *ENDING]

    assert explain(said, 1).kind == "no_model"
    assert explain(said, 1).said == told


def test_a_report_is_no_failure() -> None:
    """Words in a line that only informs are not the cause; the error after it is."""
    said = [
        (
            "(APIServer pid=1) INFO 11-21 15:21:21 [api_utils.py:286] non-default args: CUDA out "
            "of memory"
        ),
        "WARNING 11-21 15:21:21 [x.py:1] No CUDA GPUs are available",
        "ValueError: something else",
    ]

    assert explain(said, 1).kind == "unknown"
    assert explain(said, 1).said == "ValueError: something else"


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ([], -9),
        (["RuntimeError: Engine … Failed core proc(s): {'EngineCore': -9}"], 1),
        ([CORE + "Worker proc VllmWorker-0 died unexpectedly (exit code: -9), shutting down"], 1),
    ],
)
def test_killed_by_the_kernel(said: list[str], status: int) -> None:
    """SIGKILL came from the kernel if the kernel counts one; else from somebody."""
    killed = explain(said, status, oom_kills=1)

    assert killed.kind == "out_of_memory"
    assert killed.others  # that the kernel would not say
    assert explain(said, status).kind == "unknown"
    assert explain(["ValueError: x"], 1, oom_kills=1).kind == "unknown"
