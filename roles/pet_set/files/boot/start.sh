#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The pet's main container: check once more (a container restarts without its init container), then become mysqld. It
# takes this shell's place, so that it gets the kubelet's TERM itself and shuts down cleanly.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "${0%/*}/lib.sh"
# shellcheck source=settings.sh
. "${0%/*}/settings.sh"

trap 'exit 143' TERM INT # while this shell waits; mysqld handles its own
# An earlier container's: the probes must not take it for this one's, and nobody is leaving any more.
rm -f "$run/main.pid" "$run/leaving"
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
# What an earlier mysqld of this pod left behind. The folder is the pod's own, so nobody else's is hit.
rm -f "$run/mysqld.sock" "$run/mysqld.sock.lock" "$run/mysqld.pid"
say "pet $ordinal of set $PETSET_SET in $PETSET_NAMESPACE, server_uuid $server_uuid: starting mysqld, read-only"
echo "$$" >"$run/main.pid"
exec mysqld --defaults-file="$run/my.cnf"
