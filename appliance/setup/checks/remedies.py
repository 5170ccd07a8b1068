"""Commands that mend what runs, as far as this machine has what they need. Pure."""

from __future__ import annotations

from appliance.setup.checks.facts import Facts

JOURNAL = "sudo journalctl -u wattnap -n 30"
RESTART = "sudo systemctl restart wattnap"
BROKER_FILE = "/etc/mosquitto/mosquitto.conf"
OUR_BROKER_FILE = "/etc/mosquitto/conf.d/wattnap.conf"


def log(facts: Facts) -> str:
    """Where the daemon writes."""
    return JOURNAL if facts.installed else "in what `wattnap run` has printed: why"


def restart(facts: Facts) -> str:
    """The daemon."""
    return RESTART if facts.installed else "wattnap run    # again, once it has been stopped"


def start_broker(facts: Facts) -> tuple[str, ...]:
    """The Mosquitto that is installed here."""
    if facts.around.systemd:
        return ("sudo systemctl enable --now mosquitto",)
    # Debian's settings want a folder for the pid that only its unit makes.
    return ("sudo install -d -o mosquitto /run/mosquitto", f"sudo mosquitto -d -c {BROKER_FILE}")


def set_up_broker(facts: Facts) -> tuple[str, ...]:
    """Give it the settings that it lacks; it reads them again on a SIGHUP, mosquitto.conf(5)."""
    lacks = facts.around.broker_lacks
    # Debian's own file has that one, and ours has not.
    own = tuple(f"in {BROKER_FILE}: {each}" for each in lacks if each == "persistence true")
    ours = (f"sudo cp systemd/mosquitto.conf {OUR_BROKER_FILE}",) if len(own) < len(lacks) else ()
    again = "systemctl restart mosquitto" if facts.around.systemd else "pkill -HUP -x mosquitto"
    return (*own, *ours, f"sudo {again}")
