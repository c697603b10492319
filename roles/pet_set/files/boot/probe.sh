#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# probe.sh startup|live|ready: exit status 0 is yes. Looks at this container only, never at a peer or at replication;
# needs no password, no account and no client.
#
#   startup  start.sh has done its checks and become mysqld. Crash recovery may still take hours: that is 'live'.
#   live     mysqld runs and is neither stopped nor dead; once it listens, it also answers. While it does not listen yet
#            (recovery, upgrade) or any more (shutdown) that it runs is enough: there is no time limit.
#   ready    mysqld listens and greets.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "${0%/*}/lib.sh"

port=${PETSET_PORT:-3306}

no() {
    echo "$*"
    exit 1
}

# Sets state: mysqld's, as in proc(5); empty while start.sh is still at its checks (or waits for a lock).
observe_process() {
    state=
    pid=$(cat "$run/main.pid" 2>/dev/null) || return 0
    { stat=$(cat "$proc/$pid/stat"); } 2>/dev/null || no "mysqld (process $pid) is gone"
    case $stat in
        *"("mysqld*")"*) state=${stat##*) } state=${state%% *} ;;
    esac
}

# By the kernel's table, so that nobody is bothered: a socket in state LISTEN (0A) on the port.
is_listening() {
    [ -n "$(cat "$proc/net/tcp" "$proc/net/tcp6" 2>/dev/null |
        sed -n "s/^ *[0-9]*: [0-9A-F]*:$(printf %04X "$port") [0-9A-F]*:0000 0A .*/yes/p" | sed 1q)" ]
}

# The server speaks first, to everybody, before any account is looked at: one byte is proof that it takes connections
# (also when they are too many). Only bash can open a connection; an image without it has the listening port as proof.
greets() {
    command -v bash >/dev/null 2>&1 || return 0
    # shellcheck disable=SC2016 # bash's to expand
    bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$1" && read -r -t "$2" -n 1 -u 3' - "$port" "$1" 2>/dev/null
}

case ${1:-} in
    startup)
        observe_process
        [ -n "$state" ] || no "still checking the volume, or waiting for its lock"
        ;;
    live)
        observe_process
        case $state in
            T | t) no "mysqld is stopped" ;;
            Z | X) no "mysqld is dead" ;;
        esac
        if [ -n "$state" ] && is_listening; then
            greets 5 || no "mysqld listens on port $port and does not answer within 5 s"
        fi
        ;;
    ready)
        observe_process
        is_listening || no "not listening on port $port yet"
        greets 2 || no "no answer on port $port within 2 s"
        ;;
    *) no "usage: probe.sh startup|live|ready" ;;
esac
