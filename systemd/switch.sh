# The part of systemd/appliance.sh that meets what runs: try out, switch, go back, remove.
# shellcheck shell=sh disable=SC2034,SC2154 # variables of appliance.sh and install.sh

# --- the trial

# The new daemon with the new engine, in the new unit's sandbox, beside the one that runs.
try_out() {
    begin trial 'trying it beside the one that runs; compiles for minutes on a GPU'
    if [ -e /dev/nvidiactl ] || [ -e /dev/nvmap ]; then
        # Its memory is for one engine. Whoever asks now wakes the old one all the same.
        "$link_file" rest off >>"$log" 2>&1 || :
    fi
    at=/run/systemd/system
    mkdir -p "$at/$trial.d"
    sed '/^\[Install\]/,$d' "$daemon/systemd/$service" >"$at/$trial"
    for own in "$units/$service.d"/*.conf; do
        [ ! -f "$own" ] || cp "$own" "$at/$trial.d/"
    done
    cat >"$at/$trial.d/zz-trial.conf" <<END
[Service]
Type=oneshot
ExecStart=
ExecStart=$daemon/bin/wattnap trial --engine-python $engine_home/bin/python
Restart=no
WatchdogSec=0
TimeoutStartSec=3600
RuntimeDirectory=
RuntimeDirectory=wattnap-trial
RuntimeDirectoryPreserve=no
OOMScoreAdjust=500
END
    trap forget_trial EXIT # also if it is interrupted
    systemctl daemon-reload
    since=$(date '+%Y-%m-%d %H:%M:%S')
    tried=0
    run systemctl start "$trial" >>"$log" 2>&1 || tried=$?
    journalctl --unit "$trial" --since "$since" --output cat >>"$log" 2>&1 || :
    forget_trial
    trap - EXIT
    if [ "$tried" != 0 ]; then
        broken
        fail 70 "$daemon_name with engine $engine_name does not serve here (above)" "$nothing_changed"
    fi
    end
}

forget_trial() {
    systemctl stop "$trial" 2>/dev/null || :
    systemctl reset-failed "$trial" 2>/dev/null || :
    rm -rf "/run/systemd/system/$trial" "/run/systemd/system/$trial.d"
    systemctl daemon-reload
}

# --- the switch

switch() { # switch DAEMON ENGINE; if that does not serve, back to what was
    was_daemon=$(named "$opt/daemon/current")
    was_engine=$(named "$opt/engine/current")
    begin switch "switching to $1"
    trap '' HUP INT TERM # half of it would be neither the old nor the new
    backwards=
    ! newer_database "$was_daemon" "$1" || backwards=yes
    if go_to "$was_daemon" "$1" "$2" "$backwards" >>"$log" 2>&1; then
        if [ "$was_daemon $was_engine" != "$1 $2" ]; then
            point "$opt/daemon/previous" "$was_daemon"
            point "$opt/engine/previous" "$was_engine"
        fi
        trap stop HUP INT TERM
        end
        return
    fi
    last_words
    [ "$was_daemon $was_engine" != "$1 $2" ] || fail 70 "it does not serve (above): sudo wattnap doctor"
    printf 'install.sh: %s does not serve (above); going back to %s\n' "$1" "$was_daemon" >&2
    backwards=
    ! newer_database "$1" "$was_daemon" || backwards=yes
    go_to "$1" "$was_daemon" "$was_engine" "$backwards" >>"$log" 2>&1 || {
        last_words
        fail 70 "$was_daemon does not start either (above): sudo wattnap doctor"
    }
    fail 70 "$was_daemon runs again, and has all that was accepted"
}

go_to() { # go_to FROM DAEMON ENGINE BACKWARDS: 0 once it serves
    if [ -n "$4" ]; then
        # Nobody may write meanwhile; a socket would start the daemon for its first client.
        # shellcheck disable=SC2086 # words
        systemctl stop $sockets "$service"
        older_database "$1" "$2" || return
    fi
    place "$2" "$3" && start_service
}

place() { # place DAEMON ENGINE: units and links, while the old one still runs
    put_units "$opt/daemon/$1/systemd" &&
        point "$opt/daemon/current" "$1" &&
        point "$opt/engine/current" "$2" &&
        ln -sfn "$opt/daemon/current/bin/wattnap" "$link_file"
}

own_units() { # own_units FOLDER: names of the units in it
    (cd "$1" && for unit in wattnap*.service wattnap*.socket; do
        [ ! -f "$unit" ] || printf '%s\n' "$unit"
    done)
}

units_in_place() { # units_in_place DAEMON-FOLDER
    for unit in $(own_units "$1/systemd"); do
        cmp -s "$1/systemd/$unit" "$units/$unit" || return
    done
}

put_units() { # put_units FOLDER
    sockets_changed=
    for unit in $sockets; do
        cmp -s "$1/$unit" "$units/$unit" || sockets_changed=yes
    done
    for unit in $(own_units "$units"); do
        [ -f "$1/$unit" ] || rm "$units/$unit"
    done
    for unit in $(own_units "$1"); do
        install -m 0644 "$1/$unit" "$units/$unit" || return
    done
    systemd-sysusers "$1/wattnap.sysusers.conf" || return
    for group in video render; do # of GPU device nodes, where those are not everybody's: a Jetson's
        ! getent group "$group" >/dev/null || usermod --append --groups "$group" wattnap
    done
    if [ -f /etc/nv_tegra_release ]; then
        install -D -m 0644 "$1/jetson.conf" "$units/$service.d/40-jetson.conf" || return
    fi
    install -D -m 0644 "$1/wattnap.tmpfiles.conf" /etc/tmpfiles.d/wattnap.conf
    systemd-tmpfiles --create /etc/tmpfiles.d/wattnap.conf
    systemctl daemon-reload
}

start_service() { # start_service: 0 once it answers
    # shellcheck disable=SC2086 # words
    if [ -n "$sockets_changed" ]; then
        # systemd opens no socket for a service that runs.
        systemctl stop $sockets "$service"
    fi
    systemctl reset-failed "$service" 2>/dev/null || :
    # shellcheck disable=SC2086 # words
    systemctl --quiet enable "$service" $sockets &&
        systemctl start $sockets && systemctl restart "$service" &&
        timeout 30 "$link_file" status
}

last_words() { # what the service said, after what the step said
    journalctl --unit "$service" --lines 15 --output cat >>"$log" 2>&1 || :
    broken
}

migrations_of() { # migrations_of DAEMON: its folder of them
    printf '%s\n' "$opt/daemon/$1"/lib/python*/site-packages/appliance/storage/migrations
}

newer_database() { # newer_database DAEMON OTHER: does the first know more of it than the other?
    for file in "$(migrations_of "$1")"/*.sql; do
        [ -f "$(migrations_of "$2")/${file##*/}" ] || return 0
    done
    return 1
}

older_database() { # older_database NEWER OLDER: the log, as the older one can read it
    (cd / && runuser -u wattnap -- "$opt/daemon/$1/bin/python" -I -m appliance.storage.downgrade \
        "$(migrations_of "$2")")
}

prune() { # what neither runs nor can be gone back to
    for kind in daemon engine; do
        for folder in "$opt/$kind"/*/; do
            folder=${folder%/}
            name=${folder##*/}
            if [ ! -L "$folder" ] && [ "$name" != "$(named "$opt/$kind/current")" ] &&
                [ "$name" != "$(named "$opt/$kind/previous")" ]; then
                rm -rf "$folder"
            fi
        done
    done
}

# --- rollback, status, uninstall

roll_back() {
    to_daemon=$(named "$opt/daemon/previous")
    to_engine=$(named "$opt/engine/previous")
    [ -n "$to_daemon" ] || fail 69 'there is no version to go back to'
    "$opt/daemon/$to_daemon/bin/wattnap" config --check "$etc/wattnap.toml" >/dev/null ||
        fail 78 "$etc/wattnap.toml is not for $to_daemon (above)" "$nothing_changed"
    switch "$to_daemon" "$to_engine"
}

tell_status() {
    for kind in daemon engine models; do
        for which in current previous; do
            at=$(named "$opt/$kind/$which")
            [ -z "$at" ] || printf '%-8s %-9s %s\n' "$kind" "$which" "$at"
        done
    done
    printf '%-8s %-9s %s\n' service '' "$(systemctl is-active "$service" || :)"
    [ ! -x "$link_file" ] || "$link_file" status
}

uninstall() {
    [ -z "$purge" ] || home=
    forget_trial
    # shellcheck disable=SC2086 # words
    systemctl --quiet disable --now $sockets "$service" 2>/dev/null || :
    rmdir /run/wattnap 2>/dev/null || :
    for unit in $(own_units "$units"); do
        rm -f "$units/$unit"
        systemctl reset-failed "$unit" 2>/dev/null || :
    done
    rm -f "$units/$service.d/40-jetson.conf"
    rmdir "$units/$service.d" 2>/dev/null || : # what is in it now is the operator's
    systemctl daemon-reload
    for file in /sys/devices/virtual/powercap/intel-rapl/*/energy_uj \
        /sys/devices/virtual/powercap/intel-rapl/*/*/energy_uj; do
        [ ! -f "$file" ] || { chgrp root "$file" && chmod 0400 "$file"; } || :
    done
    rm -f /etc/tmpfiles.d/wattnap.conf
    [ "$(named "$link_file")" != "$opt/daemon/current/bin/wattnap" ] || rm "$link_file"
    if [ -f "$broker_file" ]; then
        rm "$broker_file"
        systemctl try-restart mosquitto.service || :
    fi
    packages=$(sort -u "$opt/packages" 2>/dev/null | tr '\n' ' ')
    rm -rf "$opt/daemon" "$opt/engine" "$opt/log" "$opt/tmp" /var/cache/wattnap
    if [ -n "$purge" ]; then
        rm -rf "$opt" "$etc" /var/lib/wattnap "$units/$service.d" "$units/wattnap-power@.service.d"
        userdel wattnap 2>/dev/null || :
        groupdel wattnap 2>/dev/null || :
        systemctl daemon-reload
        printf 'install.sh: removed, with all that it had made\n' >&2
    else
        rm "$opt/lock"
        rmdir "$opt" 2>/dev/null || : # models are in it, or it is empty
        printf 'install.sh: %s\n' 'removed; these stay, for a later install:' \
            "  $etc  /var/lib/wattnap  $opt/models  and the user wattnap" \
            'To remove them, too: sudo ./install.sh uninstall --purge' >&2
    fi
    [ -z "$packages" ] || printf 'install.sh: %s\n' \
        'Packages that were installed for it, which others may use by now:' \
        "  apt-get purge $packages" >&2
}
