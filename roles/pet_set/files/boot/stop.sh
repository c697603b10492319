#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Before the pet's mysqld is told to stop (preStop): the agent closes it and hands the lease back. mysqld itself ends the
# wait of commits that no other pet has acknowledged with OK when it stops, and clients that are still there hear it.
# Nothing is lost if this takes too long: then it is as without it.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "${0%/*}/lib.sh"

limit=${PETSET_LEAVE_S:-15}
# mysqld lets commits go that still wait when it is stopped: see the agent's rewind.py.
trap 'rm -f "$volume/.petset-guarded"' EXIT

has_left() {
    case $(ask_agent /left) in
        200*) ;;
        *) return 1 ;;
    esac
}

: >"$run/leaving"
# Without bash nobody can be asked: the usual time has to do.
if ! command -v bash >/dev/null 2>&1; then
    sleep 3
    exit 0
fi
end=$(($(date +%s) + limit))
until has_left; do
    [ "$(date +%s)" -lt "$end" ] || exit 0
    sleep 0.1
done
