#!/bin/sh
# Makes what Wattnap needs on this machine and runs it; `./install.sh --help`.
#
# Everything it makes lies in one folder, $WATTNAP_HOME. Each thing there is
# trusted by a stamp that is written last: whatever was interrupted half-way has
# none, and is made again.
set -eu

usage() {
    cat <<'END'
usage: sudo ./install.sh install [--model DIR|NAME] [--broker mosquitto|URL|none]
                             [--engine-python PATH]
       sudo ./install.sh upgrade [--engine-python PATH]
       sudo ./install.sh rollback | status
       sudo ./install.sh uninstall [--purge]
       ./install.sh demo [--json] [--keep DIR]
       ./install.sh test [PYTEST ARGUMENTS]

install    Makes a Debian or Ubuntu with systemd an appliance: daemon and engine in
           /opt/wattnap, services, a user, a configuration. Again: mends what is
           amiss, and changes nothing else.
upgrade    From a newer copy of this folder: tries the new version beside the one that
           runs, switches, and goes back by itself if it does not serve.
rollback   Back to the version before; once more, and forward again.
status     What is installed, what could be gone back to, and how it is.
uninstall  Stops and removes it. Configuration, log and models stay, unless --purge.
           All of these are told in docs/install.md and docs/operations.md.

demo   Shows the whole appliance on real parts, in a temporary folder: a broker,
       the daemon, a vLLM. Three prompts go in over MQTT; you see the engine wake,
       answer, rest and wake again, and what that cost. Ends by itself and leaves
       nothing running. --json ends with one line of JSON; --keep DIR leaves the
       demo's files (log of energy, configuration) in DIR, which is new or empty.
test   Installs what the tests need, vLLM and Mosquitto included, and runs them
       all: lint, import contracts, types, then pytest with your arguments.

Needs Linux, Python 3.11 or newer with its venv module, and pip's package index;
`install` brings Python, if Debian has it. Without an NVIDIA GPU the engine is vLLM's build for CPUs. The first run takes
minutes (for a CPU 0.7 GB to download, 4.5 GB of free disk, of which 2.7 GB stay
in use; several times that for a GPU); later runs start at once. Ctrl-C at any moment leaves nothing running.

Environment:
  WATTNAP_HOME           where demo and test keep all of this (default: .wattnap
                         here); remove the folder and nothing is left
  WATTNAP_PYTHON         the Python to use, instead of the newest up to 3.13
  WATTNAP_ENGINE         name of an entry of engines.lock, instead of the one
                         that fits this machine: cpu-x86_64 on a box with a GPU
  WATTNAP_ENGINE_PYTHON  Python of a vLLM of your own (a Jetson's, say); nothing
                         is installed for the engine then
  WATTNAP_MOSQUITTO      path of the broker to use; or `unpack`: Debian's package,
                         unpacked into WATTNAP_HOME even where one is installed
END
}

# --- saying what happens: one line a step, on stderr, so that --json stays clean

log=
begun_s=

begin() { # begin LABEL SENTENCE: a step begins; what it prints goes to its log
    mkdir -p "$home/log" "$home/tmp"
    log=$home/log/$1.log
    : >"$log"
    begun_s=$(date +%s)
    printf '%-10s %s ... ' "$1" "$2" >&2
}

end() {
    rm -rf "$home/tmp"
    printf '%s s\n' "$(($(date +%s) - begun_s))" >&2
}

fail() { # fail STATUS SENTENCE...: statuses are those of sysexits.h
    status=$1
    shift
    printf 'install.sh: %s\n' "$@" >&2
    exit "$status"
}

broken() { # the step's command failed: show the end of what it said
    printf 'failed\n\n' >&2
    tail -n 25 "$log" >&2
    printf '\n' >&2
    rm -rf "$home/tmp"
}

# --- running things so that all of them can be stopped

exec 3>&2 # where people read, even while a command's own output goes to a log
busy=
home=
stop_signal=TERM

# A process group of its own, with Ctrl-C as Python knows it: a shell's
# background jobs ignore that signal, and pass ignoring it on.
OWN_GROUP='import os, signal, sys
os.setsid()
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])'

python= # until it is found

run() { # run COMMAND...: in the background, because a shell that waits hears signals
    busy=yes
    if [ -n "$python" ]; then
        "$python" -c "$OWN_GROUP" "$@" &
    else
        setsid "$@" &
    fi
    wait "$!" && ran=0 || ran=$?
    busy=
    return "$ran"
}

try() { # try COMMAND...: a part of the current step, into its log
    # Temporary files beside what is made of them: /tmp may be small, and in memory.
    run env TMPDIR="$home/tmp" "$@" >>"$log" 2>&1 || {
        broken
        exit 69
    }
}

stop() {
    trap : HUP INT TERM # a second Ctrl-C ends the wait, and so the patience
    if [ -n "$busy" ]; then
        # Just after the fork there is no group yet, only the process.
        kill -s "$stop_signal" -- "-$!" 2>/dev/null || kill "$!" 2>/dev/null || :
        wait "$!" || :
        kill -s KILL -- "-$!" 2>/dev/null || :
    fi
    [ -z "$home" ] || rm -rf "$home/tmp"
    printf '\ninstall.sh: stopped\n' >&3 2>/dev/null || : # the terminal may be gone
    exit 130
}

# --- what is trusted

stamped() { # stamped FOLDER STAMP: is it complete, and made from the same?
    [ -f "$1/.stamp" ] && [ "$(cat "$1/.stamp")" = "$2" ]
}

stamp() {
    printf '%s\n' "$2" >"$1/.stamp"
}

digest() { # digest FILE...: of files' content, this Python and this place
    { cat -- "$@"; printf '%s\n' "$python_is" "$home"; } | sha256sum | cut -d ' ' -f 1
}

# --- Python

find_python() {
    too_old=
    for candidate in ${WATTNAP_PYTHON:-python3.13 python3.12 python3.11 python3}; do
        "$candidate" -c '' 2>/dev/null || continue
        if ! "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            too_old="$candidate is $("$candidate" -V)"
        elif "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            # The program itself: what PATH finds may be a slow stand-in that chooses one.
            python=$("$candidate" -c 'import sys; print(sys.executable)')
            python_is=$("$python" -c 'import sys; print(sys.executable, sys.version)')
            return
        else
            lacking=$("$candidate" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
            fail 69 "$candidate lacks its venv or ensurepip module." \
                "On Debian and Ubuntu, as root: apt-get install $lacking"
        fi
    done
    fail 69 "Python 3.11 or newer is needed${too_old:+; $too_old}${WATTNAP_PYTHON:+ (WATTNAP_PYTHON)}"
}

pip() { # pip VENV ARGUMENTS...: a part of the current step
    folder=$1
    shift
    try env PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 "$folder/bin/python" -m pip "$@"
}

# --- the daemon

daemon_from_wheel() { # as people have it: installed, apart from this folder
    venv=$home/venv
    needs=$(digest pyproject.toml)
    sources=$(digest_folders appliance drivers policies)
    if ! stamped "$venv" "$needs $sources"; then
        begin daemon 'installing the daemon'
        copy_source
        case $(cat "$venv/.stamp" 2>/dev/null || :) in
        "$needs "*)
            rm "$venv/.stamp"
            pip "$venv" install --no-deps --force-reinstall "$home/source"
            ;;
        *)
            rm -rf "$venv"
            try "$python" -m venv "$venv"
            pip "$venv" install "$home/source"
            ;;
        esac
        rm -rf "$home/source"
        stamp "$venv" "$needs $sources"
        end
    fi
}

copy_source() { # because building leaves files where it builds
    rm -rf "$home/source"
    mkdir "$home/source"
    cp -R pyproject.toml README.md LICENSE NOTICE appliance drivers policies "$home/source"
}

digest_folders() {
    find "$@" -type f ! -name '*.pyc' | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -d ' ' -f 1
}

daemon_from_tree() { # as developers have it: this folder's files, and the tests' tools
    venv=$home/venv-test
    needs=$(digest pyproject.toml)
    if ! stamped "$venv" "$needs"; then
        begin daemon 'installing the daemon and the tools of its tests'
        rm -rf "$venv"
        try "$python" -m venv "$venv"
        pip "$venv" install -e '.[test]'
        stamp "$venv" "$needs"
        end
    fi
}

# --- Debian's packages

# Root too gets a package unpacked and not installed: installing Mosquitto would
# start a broker for the whole machine that nobody asked for.
unpack_debian() { # unpack_debian PACKAGE FOLDER: with what it needs and is missing here
    package=$1
    into=$2
    for tool in apt-get dpkg-deb; do
        command -v "$tool" >/dev/null || {
            printf 'failed\n' >&2
            fail 69 "$package is needed, and there is no $tool to get Debian's package with." \
                'Install it with your package manager and try again.'
        }
    done
    mkdir -p "$into/apt/lists/partial" "$into/apt/cache/archives/partial"
    # The system's lists may be empty or old, and are not ours to renew.
    fetch_debian "$package" || {
        try apt-get -o APT::Sandbox::User= -o "Dir::State::Lists=$into/apt/lists" \
            -o "Dir::Cache=$into/apt/cache" update
        fetch_debian "$package" -o "Dir::State::Lists=$into/apt/lists" || {
            broken
            exit 69
        }
    }
    for file in "$into"/apt/*.deb; do
        try dpkg-deb -x "$file" "$into"
    done
    rm -rf "$into/apt"
}

fetch_debian() { # fetch_debian PACKAGE OPTIONS...: what apt would install for it here
    package=$1
    shift
    set -- "$@" -o APT::Sandbox::User= -o "Dir::Cache=$into/apt/cache"
    run apt-get "$@" --simulate --no-install-recommends --reinstall install "$package" \
        >"$into/apt/plan" 2>>"$log" || return
    packages=$(sed -n 's/^Inst \([^ ]*\).*/\1/p' "$into/apt/plan")
    # shellcheck disable=SC2086 # names of packages: one word each
    run sh -c 'cd "$1" && shift && exec "$@"' sh "$into/apt" \
        apt-get "$@" download $packages >>"$log" 2>&1
}

# --- the engine

side_by_side= # set: each version of it has a folder of its own
more_room='Set WATTNAP_HOME to a folder on a larger disk.'

choose_engine() { # before anything is installed, so that a refusal costs nobody time
    if [ -n "${WATTNAP_ENGINE_PYTHON:-}" ]; then
        engine_python=$WATTNAP_ENGINE_PYTHON
        "$engine_python" -c 'import importlib.util, sys
sys.exit(importlib.util.find_spec("vllm") is None)' ||
            fail 69 "WATTNAP_ENGINE_PYTHON: $engine_python has no vLLM"
        return
    fi
    facts=$("$python" -m appliance.setup.engine_lock --entry "${WATTNAP_ENGINE:-}" --print-facts) || {
        status=$?
        fail "$status" 'found no engine for this machine (above); see ./install.sh --help'
    }
    {
        read -r special_builds
        read -r libraries
        read -r download_gib
        read -r disk_kib
        read -r engine_version
        read -r engine_name
    } <<END
$facts
END
    mkdir -p "$home/engine"
    wanted=$home/engine/$engine_name.txt
    "$python" -m appliance.setup.engine_lock --entry "$engine_name" --print-requirements >"$wanted"
    engine_needs=$(digest "$wanted")
    engine_home=$home/engine/$engine_name${side_by_side:+-$(printf '%.8s' "$engine_needs")}
    engine_python=$engine_home/bin/python
    if stamped "$engine_home" "$engine_needs"; then
        return
    fi
    rm -rf "$engine_home"
    free_kib=$(df -Pk "$home" | awk 'NR == 2 { print $4 }')
    if [ "$free_kib" -lt "$disk_kib" ]; then
        fail 73 "the engine needs $((disk_kib / 1024)) MiB free in $home; there are $((free_kib / 1024))." \
            "$more_room"
    fi
}

install_engine() {
    if [ -n "${WATTNAP_ENGINE_PYTHON:-}" ] || stamped "$engine_home" "$engine_needs"; then
        return
    fi
    begin engine "installing $engine_version for $engine_name ($download_gib GB to download; minutes)"
    try "$python" -m venv "$engine_home"
    trap 'explain_engine $?' EXIT
    # Compiled afterwards, by all cores: nobody who starts it later may write there.
    pip "$engine_home" install --no-deps --require-hashes --no-compile -r "$wanted"
    trap - EXIT
    run "$engine_python" -m compileall -q -j 0 "$engine_home/lib" >>"$log" 2>&1 || : # templates
    for library in $libraries; do # soname:package
        bring_library "${library%:*}" "${library#*:}"
    done
    stamp "$engine_home" "$engine_needs"
    end
}

explain_engine() { # explain_engine STATUS: why pip did not find the locked files
    if [ "$1" != 130 ] && [ -n "$special_builds" ] &&
        grep -qE 'No matching distribution|DO NOT MATCH' "$log"; then
        cat >&2 <<END
install.sh: the engine is made from exactly the files named in engines.lock, and
pip did not find them. $special_builds are not on the ordinary package
index: PyTorch's own page "Get started" shows, for Linux, Pip and CPU, a command
with the address of an index that has them. Give that address to pip and try again:
    PIP_EXTRA_INDEX_URL=ADDRESS ./install.sh ...
or, with the file of PyTorch in a folder:
    PIP_FIND_LINKS=FOLDER ./install.sh ...
END
    fi
}

bring_library() { # bring_library SONAME PACKAGE: for the engine, if this machine lacks it
    if "$engine_python" -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$1" 2>/dev/null; then
        return
    fi
    unpack_debian "$2" "$engine_home/debian"
    mkdir -p "$engine_home/lib/system"
    find "$engine_home/debian" -name "$1" -exec cp -L {} "$engine_home/lib/system" \;
    rm -rf "$engine_home/debian"
    # Once a library is loaded, whatever asks for its name is given it; so each
    # Python of this venv loads it first, however it was started.
    packages=$("$engine_python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    cat >"$packages/system-libraries.pth" <<'END'
import ctypes, glob, sys; list(map(ctypes.CDLL, glob.glob(sys.prefix + "/lib/system/*.so*")))
END
    try "$engine_python" -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$1"
}

# --- the broker

find_broker() {
    case ${WATTNAP_MOSQUITTO:-} in
    unpack) unpack_mosquitto ;;
    '')
        # A system broker lies where only root's PATH looks.
        broker=$(PATH=$PATH:/usr/local/sbin:/usr/sbin command -v mosquitto) || unpack_mosquitto
        ;;
    *)
        broker=$WATTNAP_MOSQUITTO
        works "$broker" || fail 69 "WATTNAP_MOSQUITTO: $broker is no Mosquitto"
        ;;
    esac
}

works() { # works PROGRAM: is it a Mosquitto that starts here?
    { "$1" -h 2>&1 || :; } | grep -q '^mosquitto version'
}

unpack_mosquitto() {
    folder=$home/mosquitto
    broker=$folder/run
    if [ -x "$broker" ]; then
        return
    fi
    begin mosquitto "unpacking Debian's package; nothing is installed"
    rm -rf "$folder"
    unpack_debian mosquitto "$folder"
    cat >"$folder/run.new" <<'END'
#!/bin/sh
# Debian's Mosquitto from this folder, with the libraries that came with it.
here=$(dirname -- "$(readlink -f -- "$0")")
for libraries in "$here"/usr/lib/*-linux-gnu* "$here"/lib/*-linux-gnu*; do
    LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
done
export LD_LIBRARY_PATH
exec "$here/usr/sbin/mosquitto" "$@"
END
    chmod +x "$folder/run.new"
    if ! works "$folder/run.new"; then
        "$folder/run.new" -h >>"$log" 2>&1 || :
        broken
        exit 69
    fi
    mv "$folder/run.new" "$broker" # last: it is what says that the folder is complete
    end
}

# --- the commands

demo() {
    choose_engine
    find_broker
    daemon_from_wheel
    install_engine
    exec 9>&- # another run need not wait for the demo's end
    exec "$venv/bin/wattnap" demo --engine-python "$engine_python" --mosquitto "$broker" \
        --cache "$home/cache" "$@"
}

run_tests() {
    choose_engine
    find_broker
    daemon_from_tree
    install_engine
    exec 9>&-
    PATH=$venv/bin:$PATH
    failed=
    check ruff ruff check
    check format ruff format --check
    check imports lint-imports
    check types mypy
    export WATTNAP_TEST_ENGINE_PYTHON="$engine_python" WATTNAP_TEST_MOSQUITTO="$broker"
    # What this brings must not be missed; "all" is more, and for CI (tests/systemd).
    export WATTNAP_TEST_REQUIRE="${WATTNAP_TEST_REQUIRE:-1}"
    stop_signal=INT # pytest then tears down what its tests have started
    run python -m pytest "$@" || exit "$?"
    [ -z "$failed" ] || exit 1
}

check() { # check LABEL COMMAND...: the rest goes on, so that one run tells all
    label=$1
    shift
    begin "$label" "$*"
    if run "$@" >>"$log" 2>&1; then
        end
    else
        broken
        failed=yes
    fi
}

main() {
    clone=$(cd "$(dirname "$0")" && pwd)
    command=${1-}
    [ $# -eq 0 ] || shift
    case $command in
    demo | test) ;;
    install | upgrade | rollback | status | uninstall)
        trap stop HUP INT TERM
        # shellcheck source=systemd/appliance.sh
        . "$clone/systemd/appliance.sh"
        appliance "$command" "$@"
        exit 0
        ;;
    -h | --help | help)
        usage
        exit 0
        ;;
    *)
        usage >&2
        exit 64
        ;;
    esac
    case " $* " in
    *' --help '*)
        if [ "$command" = demo ]; then
            usage
            exit 0
        fi
        ;;
    esac
    trap stop HUP INT TERM
    find_python
    home=${WATTNAP_HOME:-$clone/.wattnap}
    mkdir -p "$home" || fail 73 "cannot make $home; set WATTNAP_HOME to a folder of yours"
    home=$(cd "$home" && pwd)
    cd "$clone"
    exec 9>"$home/lock"
    if command -v flock >/dev/null && ! flock -n 9; then
        printf 'install.sh: waiting for another run to finish with %s\n' "$home" >&2
        run flock 9
    fi
    case $command in
    demo) demo "$@" ;;
    test) run_tests "$@" ;;
    esac
}

main "$@"
