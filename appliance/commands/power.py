"""status, wake, rest, bake: what the machine does, and the operator's word in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from appliance.commands.options import as_json, print_json, with_config
from appliance.commands.tables import cell

if TYPE_CHECKING:
    from appliance.config import Config
    from appliance.socket_client import Event

DEPTHS = ("awake", "light", "parked", "stopped", "off")


@click.command()
@as_json
@with_config
def status(config: Config, json_: bool) -> None:
    """Say whether it is awake, what waits, and what today has cost.

    \b
    wattnap status
    wattnap status --json | jq .depth

    Exit codes: 0 the daemon runs · 69 it does not.
    """
    told = _tell(config, "status")["status"]
    if json_:
        print_json(told)
        return
    for line in describe(told):
        click.echo(line)


@click.command()
@click.option(
    "--keep-warm", "keep_warm_s", metavar="S", type=click.FloatRange(min=0, max=30 * 86400),
    default=0.0, help="Stay awake for at least S seconds.",
)  # fmt: skip
@as_json
@with_config
def wake(config: Config, json_: bool, keep_warm_s: float) -> None:
    """Wake the engine now, before the first prompt comes.

    Returns at once; `wattnap status` tells when it has arrived.

    \b
    wattnap wake --keep-warm 3600

    Exit codes: 0 told · 69 no daemon.
    """
    _tell(config, "wake", keep_warm_s=keep_warm_s)
    _confirm(json_, "" if json_ else _woken(config))


@click.command()
@click.argument("depth", required=False, type=click.Choice(DEPTHS[1:]))
@as_json
@with_config
def rest(config: Config, json_: bool, depth: str | None) -> None:
    """Let the engine rest as soon as nothing waits or runs.

    DEPTH is how deep: light, parked, stopped or off, where this machine offers
    it; without it, where the policy lets it rest in the end.

    \b
    wattnap rest
    wattnap rest off

    Exit codes: 0 told · 65 this machine does not offer that depth · 69 no daemon.
    """
    _tell(config, "rest", depth=depth)
    _confirm(json_, "going to rest")


@click.command()
@click.option("--again", is_flag=True, help="Even if it is baked already.")
@as_json
@with_config
def bake(config: Config, json_: bool, again: bool) -> None:
    """Do the first start of these settings now, while nobody waits for it.

    The daemon does so by itself when it starts (power.bake) after a change of
    the model, its flags, vLLM or the driver. Tells how it goes on; prompts are
    answered meanwhile. Ctrl-C ends the telling, `wattnap rest` the bake.

    \b
    wattnap bake
    wattnap bake --again --json

    Exit codes: 0 it is baked · 69 no daemon · 70 it failed, or was stopped ·
    130 interrupted.
    """
    from appliance.socket_client import Daemon

    event: Event = {}
    with Daemon(config.socket_path) as daemon:
        for event in daemon.call("bake", again=again or None):
            if not json_:
                click.echo(baking(event))
    if json_:
        print_json({key: event.get(key) for key in ("at", "seconds", "energy_j", "detail")})


COMMANDS = (status, wake, rest, bake)


def _tell(config: Config, op: str, **fields: object) -> Event:
    from appliance.socket_client import Daemon

    with Daemon(config.socket_path) as daemon:
        return daemon.ask(op, **fields)


def _woken(config: Config) -> str:
    """What has come of it by now."""
    state = _tell(config, "status")["status"]["state"]
    return "it is awake" if state == "awake" else "waking"


def _confirm(json_: bool, words: str) -> None:
    if json_:
        print_json({"ok": True})
    else:
        click.echo(words)


STEPS = {
    "starting": "starting; a first start may take minutes",
    "awake": "awake, and has answered",
    "asleep": "has slept",
    "parked": "has been off the GPU",
}


def baking(event: Event) -> str:
    """One step of a bake for people."""
    detail = f"; {event['detail']}" if event.get("detail") else ""
    if event["event"] == "baked":
        joules = f", {event['energy_j']:.0f} J" if event.get("energy_j") is not None else ""
        lacks = f"; wakes could be quicker{detail}" if detail else ""
        return f"baked at {cell('at', event['at'])}: {event['seconds']:.1f} s{joules}{lacks}"
    return f"{event['seconds']:6.1f} s  {STEPS.get(event['step'], event['step'])}{detail}"


def describe(told: dict[str, Any]) -> list[str]:
    """The status for people. What is not known is not mentioned."""
    state, depth = told["state"], told["depth"]
    where = state if depth in {state, "awake"} else f"{state}, {depth}"
    version = f", version {told['version']}" if told.get("version") else ""
    since = f" since {cell('at', told['since'])}" if told.get("since") else ""
    lines = [f"{where}{since} · engine {told['engine']}{version}"]
    load = f"{told['waiting']} waiting, {told['running']} running"
    expected_s = told.get("expected_wake_s")
    wake_ = f" · a wake takes about {expected_s:.0f} s" if expected_s and state != "awake" else ""
    lines.append(load + wake_)
    if told.get("failure"):
        lines.append(f"last failure: {told['failure']}")
    if told.get("retry_at"):
        at = cell("at", told["retry_at"])
        lines.append(f"the next start is tried at {at}; `wattnap wake` tries it now")
    lines += describe_bake(told.get("bake") or {})
    lines += describe_calibration(told.get("calibration") or {})
    if told.get("deferred"):
        until = cell("at", told["deferred_until"])
        lines.append(f"{told['deferred']} batch requests wait for a good moment, until {until}")
    if told.get("smaller"):
        lines.append(f"smaller than configured, which did not fit: {', '.join(told['smaller'])}")
    if lost := told.get("ledger_rows_lost"):
        lines.append(f"the disk was full for long: {lost} rows of the ledger are lost")
    if told.get("set_aside"):
        lines.append(f"a damaged database was set aside: {told['set_aside']} (docs/storage.md)")
    energy = told.get("energy") or {}
    lines += [f"not measured: {said}" for said in (energy.get("not_measured") or {}).values()]
    if energy.get("today_j") is not None:
        lines.append(f"{energy['today_j']:.0f} J today ({energy.get('source')})")
    return lines


def describe_calibration(told: dict[str, Any]) -> list[str]:
    """Whether it is decided by what was measured here."""
    match told.get("state"):
        case "never":
            return [
                "not calibrated: what the rungs cost is guessed; `wattnap calibrate` measures it"
            ]
        case "stale":
            changed = ", ".join(told["changed"])
            return [f"calibrated for another engine ({changed}); `wattnap calibrate` does it anew"]
        case "partial":
            lacking = ", ".join(told["lacking"])
            return [f"not calibrated yet: {lacking}; `wattnap calibrate` goes on"]
        case "calibrating" if told["step"] == "waiting":
            return ["calibrating: once the bake has ended"]
        case "calibrating":
            minutes = max(1, round(told["left_s"] / 60))
            return [f"calibrating: {told['step']}, {told['depth']}; about {minutes} min to go"]
    return []


def describe_bake(told: dict[str, Any]) -> list[str]:
    """How far the first start is prepared; nothing where all is well."""
    match told.get("state"):
        case "needed":
            return ["not baked yet: the next start takes longer; `wattnap bake` does it now"]
        case "baking":
            return [f"baking: {STEPS.get(told['step'], told['step'])}"]
        case "failed":
            return [f"the bake failed: {told['reason']}; `wattnap bake` tries again"]
        case "baked" if told.get("missing"):
            return [f"wakes could be quicker: {told['missing']}"]
    return []
