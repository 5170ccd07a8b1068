"""The configuration: typed, frozen, read once. Nothing else reads the file.

Every field's default stands here; `config_example.py` prints them all with
their meaning, taken from the docstrings below.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, field

from appliance.config_http import Http
from appliance.config_values import Auto, Count, Name, Seconds, Topic, Wait
from appliance.errors import ConfigError
from appliance.section import FOR_EVER_S, Section
from appliance.tariff import rate, stretches

DEFAULT_PATH = Path("/etc/wattnap/wattnap.toml")

MeterKind = Literal["nvml", "nvml_power", "ina3221", "rapl", "plug", "cpu_time"]
Depth = Literal["awake", "light", "parked", "stopped", "off"]


class Mqtt(Section, frozen=True):
    """The MQTT door.

    enabled              false: no broker is used
    host                 of the broker
    port                 of the broker
    version              "5", or "3.1.1" for old brokers: then the fields travel in the JSON
    username             empty: none
    password_file        file that holds the password; empty: none
    tls                  true: connect with TLS
    tls_ca_file          certificate authority to trust; empty: the system's
    base                 topic prefix; empty: "wattnap/<name>"
    response_topics      where answers may go; empty: "<base>/response/#" and "+/wattnap/#"
    keep_alive_s         seconds between pings; a frozen broker is noticed after up to twice that
    session_expiry_s     how long the broker keeps our messages while we are away
    connect_timeout_s    seconds for one attempt to connect
    publish_timeout_s    seconds after which a publish counts as lost, and the connection with it
    retry_min_s          first pause after a lost connection; doubles up to retry_max_s
    retry_max_s          longest pause between attempts to connect
    """

    enabled: bool = True
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 1883
    version: Literal["5", "3.1.1"] = "5"
    username: str = ""
    password_file: str = ""
    tls: bool = False
    tls_ca_file: str = ""
    base: str = ""
    response_topics: tuple[str, ...] = ()
    keep_alive_s: Annotated[int, Meta(ge=5, le=3600)] = 60
    session_expiry_s: Annotated[int, Meta(ge=60, le=4294967295)] = 7 * 86400
    connect_timeout_s: Wait = 10.0
    publish_timeout_s: Wait = 10.0
    retry_min_s: Wait = 0.5
    retry_max_s: Wait = 60.0


class Socket(Section, frozen=True):
    """The socket door; the command line speaks it.

    path       unix socket; empty: "<runtime_dir>/wattnap.sock"; where systemd has opened one
               (wattnap.socket), that one is used, with its permissions
    mode       permissions, octal
    group      group that may use it; empty: the daemon's own
    """

    path: str = ""
    mode: Annotated[
        str, Meta(pattern="^0?[0-7]{3}$", description='three octal digits, e.g. "0660"')
    ] = "0660"
    group: str = ""


class Engine(Section, frozen=True):
    """The engine. Its model is served under `alias`.

    alias              the model's name in topics and requests
    kind               "vllm", or "fake" for a trial without one
    python             interpreter of the engine's own virtual environment
    model              directory of the model; empty: the one of `wattnap model use`, else the small
                       one in the box (home commands)
    device             "auto", "cpu" or "cuda"
    max_model_len      longest prompt plus answer, in tokens; 0: the model's own
    kv_cache_mib       memory for the KV cache; 0: the engine measures what is free; "auto": so it
                       does on a GPU with memory of its own, else a fixed amount (docs/jetson.md)
    max_running        requests served at once; more wait; "auto": 64, with shared memory 4
    enforce_eager      true: no compilation and no graphs; starts faster, serves slower;
                       "auto": false, with shared memory true, without a GPU unless `compile` is
    compile            true: vLLM compiles the model, which serves 3 to 4 % faster (H200), starts
                       3 s later even when all is cached, and holds more RAM when parked;
                       false: graphs of decoding alone, from vLLM 0.26 on; none without a GPU
    load_format        how vLLM reads weights, e.g. "safetensors"; "auto": with InstantTensor where
                       the engine has it and the model is of safetensors, but not with shared
                       memory; else as vLLM thinks best
    quantization       how vLLM makes or reads smaller weights, e.g. "fp8"; empty: as the model says
    speculative_ngram_tokens  tokens guessed ahead from words that were said before, where a guess
                       costs less than a step; 0: none
    priority_scheduling  true: a request's priority counts inside vLLM too, and a better one may
                       push another aside; false: it counts while it waits for a place
    prefix_caching     true or false: whether what prompts share is computed once; "auto": as vLLM
                       thinks best
    cudagraph_capture_sizes  batch sizes for which graphs are captured at the start, e.g.
                       [1, 2, 4]: fewer make a faster start; "auto": few, for as much as
                       max_running can fill and for short prompts; empty: vLLM's own, up to 512
    startup_plan       true: vLLM measures only once how much memory is left (no faster on an H200);
                       without effect before vLLM 0.26
    args               further arguments for vLLM
    env                further environment variables for vLLM; they go before ours
    start_timeout_s    longest start; the first one on a GPU compiles for minutes
    stop_timeout_s     longest orderly stop before it is killed
    stall_timeout_s    an engine that sends nothing for this long while it should is replaced
    sleep_level        how it sleeps: 1 keeps the weights in RAM, 2 drops them and fetches them from
                       a copy in cache_dir, 0 never; 1 is of no use where CPU and GPU share memory,
                       and in each life the first such sleep takes long (10 s for 13 GB)
    warm_host          "on": keep a process that has imported vLLM and starts the next engine within
                       seconds; it holds 0.5 to 1 GB of RAM; "off": none; "auto": on, but off where
                       CPU and GPU share less than 16 GB
    cache_dir          vLLM's compile caches and that copy; empty: "<state_dir>/cache"
    """

    alias: Name = "main"
    kind: Literal["vllm", "fake"] = "vllm"
    python: str = "/opt/wattnap/engine/current/bin/python"
    model: str = ""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    max_model_len: Annotated[int, Meta(ge=0)] = 0
    kv_cache_mib: Annotated[int, Meta(ge=0)] | Auto = "auto"
    max_running: Count | Auto = "auto"
    enforce_eager: bool | Auto = "auto"
    compile: bool = False
    load_format: Annotated[
        str, Meta(pattern=r"^[a-z0-9_-]+$", description="a word of a-z 0-9 _ -")
    ] = "auto"
    quantization: Annotated[
        str, Meta(pattern=r"^[a-z0-9_-]*$", description="a word of a-z 0-9 _ -, or empty")
    ] = ""
    speculative_ngram_tokens: Annotated[int, Meta(ge=0, le=64)] = 0
    priority_scheduling: bool = False
    prefix_caching: bool | Auto = "auto"
    cudagraph_capture_sizes: tuple[Count, ...] | Auto = "auto"
    startup_plan: bool = False
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    start_timeout_s: Wait = 900.0
    stop_timeout_s: Annotated[float, Meta(ge=0, le=7 * 86400)] = 10.0
    stall_timeout_s: Annotated[float, Meta(gt=0, le=FOR_EVER_S)] = 120.0
    sleep_level: Literal[0, 1, 2] = 2
    warm_host: Literal["auto", "on", "off"] = "auto"
    cache_dir: str = ""


class Power(Section, frozen=True):
    """When to rest.

    policy             "fixed" rests after idle_timeout_s, "always_on" never; "breakeven" when
                       idling has cost as much as resting would have; "learned" likewise, but
                       sooner or later where the past says so (docs/policies.md)
    idle_timeout_s     for "fixed": idle time before resting
    max_depth          where it rests: "auto" is, for "fixed", as little deep as leaves the GPU to
                       others, else any depth that pays; or never deeper than this
    lambda_w           for "breakeven" and "learned": watts that a waiting person is worth; the
                       more, the later it rests
    yield_after_s      for these two: idle time after which the engine has left the GPU, whether
                       that pays or not
    hold_vram_w_per_gib  for these two: watts that held GPU memory is worth, because others could
                       use it; no meter ever sees them
    hold_ram_w_per_gib  for these two: … and host memory
    wake_cap_s         for these two: no depth from which a wake takes longer; 0: any
    min_awake_s        for these two: once awake, it stays so for this long
    max_wakes_per_hour  for these two: after so many it stays awake until the first is an hour
                       ago; 0: any number
    keep_warm          when it is to be awake whether somebody asks or not, in local time, e.g.
                       ["Mon-Fri 07:30-18:00"]
    rest               when it is to rest as soon as nobody asks, e.g. ["23:00-06:00"]; goes
                       before keep_warm
    start_awake        true: wake at start-up, not at the first request
    bake               true: what would make the first start and the first rest of new settings
                       slow is done once when the daemon starts, and then it rests; false: at the
                       word of `wattnap bake`. Not where it is to be awake from the start anyway
    """

    policy: Literal["always_on", "fixed", "breakeven", "learned"] = "fixed"
    idle_timeout_s: Seconds = 300.0
    max_depth: Depth | Literal["auto"] = "auto"
    lambda_w: Annotated[float, Meta(ge=0, le=1e6)] = 100.0
    yield_after_s: Seconds = 900.0
    hold_vram_w_per_gib: Annotated[float, Meta(ge=0, le=1000)] = 0.05
    hold_ram_w_per_gib: Annotated[float, Meta(ge=0, le=1000)] = 0.01
    wake_cap_s: Seconds = 0.0
    min_awake_s: Seconds = 30.0
    max_wakes_per_hour: Annotated[int, Meta(ge=0, le=3600)] = 20
    keep_warm: tuple[str, ...] = ()
    rest: tuple[str, ...] = ()
    start_awake: bool = False
    bake: bool = True

    def __post_init__(self) -> None:
        for name in ("keep_warm", "rest"):
            try:
                stretches(getattr(self, name))
            except ValueError as error:
                raise ValueError(f"power.{name}: {error}") from error


class Inbox(Section, frozen=True):
    """What is accepted, and how long it is kept.

    max_waiting        unfinished requests; one more is refused with `inbox_full`
    max_request_bytes  largest payload any door takes
    max_attempts       times a request is run before it is given up
    keep_answers_s     answers and bodies are kept this long; 0: until delivered
    keep_ids_s         ids are remembered this long, so that a repeat is not run again
    batch_window_ms    requests that come so close together go to the engine together; each waits
                       at most that long for others. 0: none waits; 100 suits many that chat at once
    """

    max_waiting: Count = 1000
    max_request_bytes: Annotated[int, Meta(ge=1024, le=64 * 1024 * 1024)] = 1024 * 1024
    max_attempts: Annotated[int, Meta(ge=1, le=3)] = 3
    keep_answers_s: Seconds = 7 * 86400.0
    keep_ids_s: Seconds = 90 * 86400.0
    batch_window_ms: Annotated[float, Meta(ge=0, le=10_000)] = 0.0


class Defer(Section, frozen=True):
    """What requests of class "batch" wait for, before the engine is woken for them.

    An engine that is awake serves them at once, and one that wakes for somebody else serves
    them with him.

    max_wait_s         the longest that one waits; a deadline of its own may be sooner. 0: a batch
                       request wakes the engine as any other does
    count              so many together wake it; 0: half of what inbox.max_waiting allows
    good_hours         "cheap" or "green": those that wait wake it in the best quarter of the day,
                       by per_kwh or co2_g_per_kwh in [tariff]; "none": not by a table
    topic              of the broker in [mqtt], on which a price or grams of CO2 are published;
                       empty: none. Below topic_at_most they wake it, too
    topic_field        where that number is in a JSON object, e.g. "data.intensity"; empty: it is
                       the whole payload
    topic_at_most      up to that value the hour is a good one
    margin_s           a deadline is met with so much to spare, if wake and answers take what
                       they usually do
    """

    max_wait_s: Annotated[float, Meta(ge=0, le=30 * 86400)] = 86400.0
    count: Annotated[int, Meta(ge=0)] = 100
    good_hours: Literal["none", "cheap", "green"] = "none"
    topic: Topic = ""
    topic_field: str = ""
    topic_at_most: Annotated[float, Meta(ge=-1e6, le=1e6)] = 0.0
    margin_s: Seconds = 60.0


class Energy(Section, frozen=True):
    """How joules are counted (docs/energy.md).

    meter              whose joules are the bill; "auto": the GPU's counter, else a Jetson's
                       own sensors, else the processor's counters if we may read them, else an
                       estimate from CPU time; "none": none are counted
    also               meters that are read beside it, e.g. ["nvml_power", "plug"]
    plug_topic         of a smart plug, e.g. "tele/box/SENSOR" (Tasmota) or
                       "shellyplus1pm-a8032ab12345/status/switch:0" (Shelly, generation 2 on)
    rails              of a Jetson: those that together are the module; empty: by its board's
                       table (docs/jetson.md)
    estimate_idle_w    for the estimate: what the idle box draws
    estimate_core_w    for the estimate: what one busy core adds
    gain               joules at the wall for each that a meter counts, e.g. { nvml = 1.18 };
                       `wattnap meter fit` finds it
    offset_w           and what is drawn at the wall besides, e.g. { nvml = 61.2 }
    """

    meter: MeterKind | Literal["auto", "none"] = "auto"
    also: tuple[MeterKind, ...] = ()
    plug_topic: Topic = ""
    rails: tuple[str, ...] = ()
    estimate_idle_w: Annotated[float, Meta(ge=0, le=1e6)] = 4.0
    estimate_core_w: Annotated[float, Meta(gt=0, le=1e6)] = 6.0
    gain: dict[MeterKind, Annotated[float, Meta(gt=0, le=100)]] = field(default_factory=dict)
    offset_w: dict[MeterKind, Annotated[float, Meta(ge=-10_000, le=10_000)]] = field(
        default_factory=dict
    )


class Tariff(Section, frozen=True):
    """What a kilowatt-hour costs, for `wattnap energy` (docs/energy.md).

    currency           in which per_kwh is given
    per_kwh            price; 0: no cost is shown; or by local time of day, e.g.
                       { "06:00-22:00" = 0.34, "22:00-06:00" = 0.21 }, which may begin with days:
                       "Mon-Fri 06:00-22:00". A hole is refused
    co2_g_per_kwh      grams of CO2; 0: none are shown; or by time of day, likewise
    """

    currency: Annotated[
        str, Meta(pattern=r"^[^\x00-\x1f\x7f]{1,8}$", description="1 to 8 characters")
    ] = "EUR"
    per_kwh: float | dict[str, float] = 0.0
    co2_g_per_kwh: float | dict[str, float] = 0.0

    def __post_init__(self) -> None:
        for name in ("per_kwh", "co2_g_per_kwh"):
            try:
                rate(getattr(self, name))
            except ValueError as error:
                raise ValueError(f"tariff.{name}: {error}") from error


class Ledger(Section, frozen=True):
    """How long the log is kept (docs/energy.md). What it adds up to is kept for ever.

    keep_requests_s    one row per request; then only counts and sums, by the hour
    keep_hours_s       one row per hour; then only one per day
    """

    keep_requests_s: Seconds = 400 * 86400.0
    keep_hours_s: Seconds = 800 * 86400.0


class Log(Section, frozen=True):
    """What the daemon tells the journal, or a terminal (docs/operations.md).

    level    "info": each move and how each request ended; "debug": every decision, too
    prompts  true: what was asked and what was answered, in full
    """

    level: Literal["warning", "info", "debug"] = "info"
    prompts: bool = False


class Config(Section, frozen=True):
    """Where things are.

    name         of this appliance, in topics
    state_dir    the database and the engine's caches
    runtime_dir  sockets; private to the daemon
    """

    name: Name = "home"
    state_dir: str = "/var/lib/wattnap"
    runtime_dir: str = "/run/wattnap"
    mqtt: Mqtt = Mqtt()
    socket: Socket = Socket()
    http: Http = Http()
    engine: Engine = Engine()
    power: Power = Power()
    inbox: Inbox = Inbox()
    defer: Defer = Defer()
    energy: Energy = Energy()
    tariff: Tariff = Tariff()
    ledger: Ledger = Ledger()
    log: Log = Log()

    @property
    def database(self) -> Path:
        return Path(self.state_dir) / "wattnap.db"

    @property
    def socket_path(self) -> Path:
        return Path(self.socket.path or f"{self.runtime_dir}/wattnap.sock")

    @property
    def mqtt_base(self) -> str:
        return self.mqtt.base or f"wattnap/{self.name}"

    @property
    def cache_dir(self) -> Path:
        return Path(self.engine.cache_dir or f"{self.state_dir}/cache")


def load(path: Path) -> Config:
    """Read `path`. Raises ConfigError naming the file, the key and the remedy."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {os.strerror(error.errno or 0)}") from error
    try:
        return msgspec.toml.decode(raw, type=Config)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        from appliance.refusal import of_toml

        told = of_toml(error, raw, Config).message
        raise ConfigError(f"{path}: {told}; `wattnap config --example` shows all") from error


def find(path: str | None) -> Config:
    """The configuration named, else the installed one, else the defaults."""
    if path is not None:
        return load(Path(path))
    return load(DEFAULT_PATH) if DEFAULT_PATH.exists() else Config()
