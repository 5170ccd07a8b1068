# The commands of install.sh that change the machine; it reads this file, and has the
# steps, Python and the engine, which demo and test need too.
#
#     /opt/wattnap/daemon/VERSION-DIGEST/    a virtual environment, and its units
#     /opt/wattnap/engine/NAME-DIGEST/       another; own-DIGEST: a board's own vLLM
#     /opt/wattnap/models/                   see `wattnap model`
#     …/current, …/previous                  symlinks: what runs, what to go back to
#
# A new version is made beside the one that runs, tried there, and switched to in the
# end: until then nothing that runs has changed.
# shellcheck shell=sh disable=SC2034,SC2154 # variables of install.sh

# shellcheck source=systemd/switch.sh
. "$clone/systemd/switch.sh"

opt=/opt/wattnap
etc=/etc/wattnap
units=/etc/systemd/system
service=wattnap.service
sockets='wattnap.socket wattnap-power.socket'
trial=wattnap-trial.service
broker_file=/etc/mosquitto/conf.d/wattnap.conf
link_file=/usr/local/bin/wattnap

appliance() { # appliance COMMAND OPTIONS...
    read_options "$@"
    if [ "$1" = status ] && [ ! -d "$opt" ]; then
        fail 69 'Wattnap is not installed; sudo ./install.sh install'
    fi
    [ "$(id -u)" = 0 ] || fail 77 "that takes root: sudo ./install.sh $1"
    [ -d /run/systemd/system ] || fail 69 'this machine was not booted with systemd'
    umask 022
    export PYTHONDONTWRITEBYTECODE=1 # in the clone, which is not root's
    # Root's own may lie in a home, where services do not see it.
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    home=$opt
    more_room='Make room there, and try again.'
    side_by_side=yes
    mkdir -p "$opt/daemon" "$opt/engine"
    exec 9>"$opt/lock"
    flock -n 9 || fail 75 'another install.sh is at work'
    case $1 in
    install) install_appliance ;;
    upgrade)
        installed || fail 69 'nothing is installed yet: sudo ./install.sh install'
        install_appliance
        ;;
    rollback) roll_back ;;
    status) tell_status ;;
    uninstall) uninstall ;;
    esac
}

read_options() {
    for_command=$1
    shift
    model='' broker='' own_python='' purge=''
    while [ $# -gt 0 ]; do
        case $1 in
        --*=*)
            option=${1%%=*}
            value=${1#*=}
            shift
            set -- "$option" "$value" "$@"
            ;;
        esac
        case $for_command$1 in
        install--model) model=${2-} ;;
        install--broker) broker=${2-} ;;
        install--engine-python | upgrade--engine-python) own_python=${2-} ;;
        uninstall--purge)
            purge=yes
            shift
            continue
            ;;
        *)
            usage >&2
            fail 64 "$for_command does not know $1"
            ;;
        esac
        [ -n "${2-}" ] || fail 64 "$1 needs a value"
        shift 2
    done
    case $model in # told from where install.sh was called, not from its own folder
    */* | .) model=$(realpath "$model") ;;
    esac
    [ -z "$own_python" ] || own_python=$(realpath -s "$own_python")
    cd "$clone" || exit
}

installed() {
    [ -L "$opt/daemon/current" ]
}

named() { # named LINK: what it points to, or nothing
    readlink "$1" || :
}

point() { # point LINK NAME: in one step, so that there is no moment without
    ln -sfn "$2" "$1.new"
    mv -T "$1.new" "$1"
}

# --- install and upgrade

install_appliance() {
    bring_python
    find_python
    refuse_home "$python" 'Name another one: WATTNAP_PYTHON=/usr/bin/python3.11 ./install.sh ...'
    prepare_configuration
    choose_version
    [ -z "${WATTNAP_ENGINE_PYTHON:-}" ] || refuse_home "$engine_python" \
        'Make its environment elsewhere, of a Python elsewhere: /usr/bin/python3 -m venv /opt/vllm'
    build_daemon
    build_engine
    "$daemon/bin/wattnap" config --check "$configuration" >/dev/null ||
        fail 78 "$etc/wattnap.toml is not for this version (above)" "$nothing_changed"
    bring_broker
    if installed; then
        upgrade
        [ -z "$model" ] || use_model
    else
        first_install
    fi
    prune
}

refuse_home() { # refuse_home PYTHON REMEDY
    for place in "$1" "$(readlink -f "$1")"; do
        case $place in
        /home/* | /root/*) fail 69 "$place is in a home, where services may not look" "$2" ;;
        esac
    done
}

nothing_changed='Nothing that runs was changed.'

bring_python() { # Debian's, where there is none that is new enough
    if [ -n "${WATTNAP_PYTHON:-}" ] || (find_python) >/dev/null 2>&1; then
        return
    fi
    begin python 'installing Python'
    # Ubuntu 22.04 and JetPack 6 have 3.10, and a newer one beside it.
    if ! command -v python3 >/dev/null ||
        python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        get_packages python3 python3-venv
    else
        get_packages python3.11 python3.11-venv
    fi
    end
}

get_packages() { # get_packages NAME...: Debian's, and remember which are here because of us
    # shellcheck disable=SC2016 # the query's own variables
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed' ||
            printf '%s\n' "$package" >>"$opt/packages"
    done
    quietly="env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300"
    # shellcheck disable=SC2086 # words
    run $quietly install --no-install-recommends "$@" >>"$log" 2>&1 || {
        try $quietly update
        try $quietly install --no-install-recommends "$@"
    }
}

# The file is the operator's as soon as it differs from what was written here.
prepare_configuration() {
    configuration=$etc/wattnap.toml
    fresh=$opt/configuration
    if [ -n "$broker" ] && [ -f "$configuration" ] && ! cmp -s "$configuration" "$fresh/wattnap.toml"; then
        fail 78 "$configuration has changes of yours, and is left alone" \
            'Set the broker there, in [mqtt], and run it again without --broker.'
    fi
    changed=
    if [ -n "$broker" ] || [ ! -f "$configuration" ]; then
        case $broker in
        '' | mosquitto) set -- ;;
        *) set -- --broker "$broker" ;;
        esac
        rm -rf "$fresh.new"
        "$python" -m appliance.setup.first_config "$@" "$fresh.new" || exit "$?"
        if [ -f "$configuration" ] && cmp -s "$configuration" "$fresh.new/wattnap.toml"; then
            rm -rf "$fresh.new"
        else
            changed=yes
            configuration=$fresh.new/wattnap.toml
        fi
    fi
}

put_configuration() {
    [ -n "$changed" ] || return 0
    mkdir -p "$etc" "$units/$service.d"
    if [ -f "$fresh.new/mqtt-password" ]; then
        install -m 0600 "$fresh.new/mqtt-password" "$etc/mqtt-password"
        rm "$fresh.new/mqtt-password"
    fi
    rm -f "$units/$service.d/50-broker.conf"
    [ ! -f "$fresh.new/broker.conf" ] || cp "$fresh.new/broker.conf" "$units/$service.d/50-broker.conf"
    rmdir "$units/$service.d" 2>/dev/null || :
    cp "$fresh.new/wattnap.toml" "$etc/wattnap.toml"
    rm -rf "$fresh"
    mv "$fresh.new" "$fresh"
}

choose_version() {
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
    daemon_needs="$(digest pyproject.toml) $(digest_folders appliance drivers policies systemd)"
    daemon_name=$version-$(printf '%s' "$daemon_needs" | sha256sum | cut -c 1-8)
    daemon=$opt/daemon/$daemon_name
    current_engine=$(named "$opt/engine/current")
    if [ -n "$own_python" ]; then
        WATTNAP_ENGINE_PYTHON=$own_python
    else
        case $current_engine in
        own-*) WATTNAP_ENGINE_PYTHON=$(cat "$opt/engine/current/.stamp") ;;
        esac
    fi
    choose_engine
    if [ -n "${WATTNAP_ENGINE_PYTHON:-}" ]; then
        engine_name=own-$(printf '%s' "$engine_python" | sha256sum | cut -c 1-8)
        engine_home=$opt/engine/$engine_name
    fi
    engine_name=${engine_home##*/}
}

build_daemon() {
    if stamped "$daemon" "$daemon_needs"; then
        return
    fi
    begin daemon "installing daemon $daemon_name"
    rm -rf "$daemon"
    copy_source
    try "$python" -m venv "$daemon"
    pip "$daemon" install "$home/source"
    cp -R systemd "$daemon/systemd"
    rm -rf "$home/source"
    stamp "$daemon" "$daemon_needs"
    end
}

build_engine() {
    if [ -z "${WATTNAP_ENGINE_PYTHON:-}" ]; then
        bring_compiler
        install_engine
    elif ! stamped "$engine_home" "$engine_python"; then
        # A program, not a link: a virtual environment is known by where its Python is called.
        mkdir -p "$engine_home/bin"
        cat >"$engine_home/bin/python" <<END
#!/bin/sh
PATH="$(dirname "$engine_python"):\$PATH" exec "$engine_python" "\$@"
END
        chmod +x "$engine_home/bin/python"
        stamp "$engine_home" "$engine_python"
    fi
}

# vLLM compiles on the machine that it runs on: Triton for a GPU, Inductor for a CPU. Without
# a compiler its start does not fail, it hangs (0.32, on a CPU).
bring_compiler() {
    headers='import os, sysconfig, sys
sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'
    if command -v g++ >/dev/null && "$python" -c "$headers"; then
        return
    fi
    begin compiler 'installing the compiler that vLLM needs'
    get_packages g++ "$("$python" -c 'import sys; print("python%d.%d-dev" % sys.version_info[:2])')"
    end
}

bring_broker() { # Mosquitto on this machine, with the settings that docs/mqtt.md recommends
    case $broker in
    mosquitto) ;;
    '') [ -n "$changed" ] || return 0 ;;
    *) return 0 ;;
    esac
    if ! command -v mosquitto >/dev/null; then
        begin broker 'installing Mosquitto'
        get_packages mosquitto
        end
    fi
    if cmp -s systemd/mosquitto.conf "$broker_file"; then
        return
    fi
    begin broker 'setting up Mosquitto'
    cp systemd/mosquitto.conf "$broker_file"
    if ! run systemctl restart mosquitto.service >>"$log" 2>&1; then
        rm "$broker_file"
        systemctl restart mosquitto.service >>"$log" 2>&1 || :
        journalctl --unit mosquitto.service --lines 10 --output cat >>"$log" 2>&1 || :
        broken
        fail 69 'Mosquitto does not start with systemd/mosquitto.conf; its own settings are back.' \
            'Put these settings into your own files, or name the broker: --broker mqtt://127.0.0.1'
    fi
    end
}

first_install() {
    begin service 'setting up user, units and configuration'
    put_configuration
    place "$daemon_name" "$engine_name" >>"$log" 2>&1 || {
        broken
        fail 70 'units or user could not be set up (above)'
    }
    end
    [ -z "$model" ] || use_model
    begin start 'starting'
    if ! start_service >>"$log" 2>&1; then
        last_words
        fail 70 'it does not start (above); what it needs, this tells: wattnap doctor' \
            'Then again: sudo ./install.sh install'
    fi
    end
    if bakes; then
        begin bake 'the first start of the engine; compiles for minutes on a GPU'
        try "$link_file" bake
        end
    fi
    cat >&2 <<END

It runs, and starts with the machine. Ask it something:
    sudo wattnap ask "turn on the light in the kitchen"
    mosquitto_pub -q 1 -t wattnap/home/request -m 'turn on the light in the kitchen'
Settings: $etc/wattnap.toml. What could be better: sudo wattnap doctor.
To use the socket without root: sudo usermod -aG wattnap \$USER, and log in again.
END
}

bakes() { # as the configuration has it
    "$daemon/bin/python" -I -c 'import sys
from appliance.config import find
sys.exit(not find(None).power.bake)'
}

use_model() { # --model: a folder, or the name of one that was added
    case $model in
    */*)
        begin model "copying $model"
        try "$daemon/bin/wattnap" model add "$model"
        end
        model=$(tail -n 1 "$log" | cut -d ' ' -f 1)
        ;;
    esac
    begin model "switching to $model"
    try "$daemon/bin/wattnap" model use "$model"
    end
}

upgrade() {
    if same_as_now; then
        printf 'install.sh: %s with engine %s is installed, and runs\n' "$daemon_name" "$engine_name" >&2
        return
    fi
    if [ "$daemon_name $engine_name" != "$(named "$opt/daemon/current") $current_engine" ]; then
        try_out
    fi
    put_configuration
    switch "$daemon_name" "$engine_name"
}

same_as_now() {
    [ "$daemon_name $engine_name" = "$(named "$opt/daemon/current") $current_engine" ] &&
        [ -z "$changed" ] && units_in_place "$daemon" && systemctl --quiet is-active "$service" &&
        [ "$(named "$link_file")" = "$opt/daemon/current/bin/wattnap" ]
}
