#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The pet's main container: check once more (a container restarts without its init container), then become mysqld. It
# takes this shell's place, so that it gets the kubelet's TERM itself and shuts down cleanly.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "${0%/*}/lib.sh"
# shellcheck source=settings.sh
. "${0%/*}/settings.sh"

# Was mysqld killed? Then the newest binary log is still marked as in use: a flag in its first event.
was_killed() {
    newest=$(sed -n '$p' "$data/binlog.index" 2>/dev/null) || return 1
    [ -n "$newest" ] && [ "$(od -An -tu1 -j21 -N1 "$data/$newest" 2>/dev/null | tr -d ' ')" = 1 ]
}

# free_lost_locks: of all files that mysqld may lock. Without it InnoDB tries each for 100 s. Side by side, as the NFS client
# waits 5 s for each file that the server has open already.
free_lost_locks() {
    opened=0
    for file in "$data"/* "$data"/*/*; do
        [ -f "$file" ] || continue
        free_lost_lock "$file" &
        opened=$((opened + 1))
        [ $((opened % 50)) -ne 0 ] || wait
    done
    wait
}

# A pet whose mysqld was killed while it was the writer may hold commits that nobody was told of. Its agent cuts them off
# the log once another pet has opened, and says when mysqld may start. As long as it answers it is waited for: it has a
# limit of its own. What an agent that is silent does not say cannot be waited for for ever; then all is kept.
await_agent() {
    { cat "$proc/sys/kernel/random/uuid" 2>/dev/null || date +%s%N; } >"$run/starting.new"
    mv "$run/starting.new" "$run/starting"
    token=$(cat "$run/starting")
    told=
    heard_s=$(date +%s)
    while :; do
        answer=$(ask_agent "/start?$token") || answer=
        case $answer in
            200* | 404*) break ;; # 404: an agent that is older than this script
            503*)
                heard_s=$(date +%s)
                [ "$answer" = "$told" ] || say "mysqld was killed; its agent says when it may start: ${answer#503 }"
                told=$answer
                ;;
            *)
                [ $(($(date +%s) - heard_s)) -lt "${PETSET_AGENT_SILENT_S:-60}" ] || {
                    say "the agent does not answer: mysqld starts with all that it has"
                    break
                }
                ;;
        esac
        sleep 0.1
    done
}

trap 'exit 143' TERM INT # while this shell waits; mysqld handles its own
# An earlier container's: the probes must not take it for this one's, and nobody is leaving any more.
rm -f "$run/main.pid" "$run/leaving" "$run/starting"
require_environment
check_mount
check_identity
[ "$verdict" = known ] ||
    refuse not-prepared "$volume holds no complete data folder: the init container 'prepare' did not run"
check_writable
take_lock
check_identity
repair_modes
render_cnf
if was_killed; then
    free_lost_locks
    [ -z "${PETSET_AGENT_PORT:-}" ] || ! command -v bash >/dev/null 2>&1 || await_agent
fi
# The agent cuts nothing any more; and until it says so again, commits do not wait for another pet.
rm -f "$run/starting" "$volume/.petset-guarded"
# What an earlier mysqld of this pod left behind. The folder is the pod's own, so nobody else's is hit.
rm -f "$run/mysqld.sock" "$run/mysqld.sock.lock" "$run/mysqld.pid"
say "pet $ordinal of set $PETSET_SET in $PETSET_NAMESPACE, server_uuid $server_uuid: starting mysqld, read-only"
echo "$$" >"$run/main.pid"
rm -f "$run/fence"
if [ -n "${PETSET_AGENT_PORT:-}" ] && command -v bash >/dev/null 2>&1 && mkfifo "$run/fence"; then
    # Without the volume's lock, which is mysqld's alone.
    bash "$boot/fence.sh" "$run/fence" "$$" 9>&- &
fi
# Its memory has everybody's data and passwords: no image of it on the volume or the node.
# shellcheck disable=SC3045 # every shell that images have as sh knows -c
ulimit -c 0 2>/dev/null || :
# The C library's allocator keeps what threads have freed in up to 8 heaps for each processor of the node, whatever the
# container's limit. Other allocators pass over it.
read_memory
MALLOC_ARENA_MAX=${MALLOC_ARENA_MAX:-$(clamp $((memory_mib / 512)) 2 16)}
export MALLOC_ARENA_MAX
exec mysqld --defaults-file="$run/my.cnf"
