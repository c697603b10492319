#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The rule of the published haproxy image: options alone mean haproxy, and haproxy runs as a master with workers, in
# the foreground, so that SIGUSR1 ends it softly and SIGUSR2 reloads it. Any other command runs as it is.
set -eu

case "${1:-}" in
-*) set -- haproxy "$@" ;;
esac
if [ "${1:-}" = haproxy ]; then
    shift
    set -- haproxy -W -db "$@"
fi
exec "$@"
