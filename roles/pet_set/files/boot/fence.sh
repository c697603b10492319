#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# fence.sh PIPE PID: beside mysqld for as long as it lives, and kills it when its agent writes "kill" into the pipe: then
# another pet writes, and what mysqld still holds must not be committed. Started by start.sh. Only bash reads with a limit.

exec 3<>"$1" || exit # both ends, so that neither waits for the other

# One that has ended and that nobody has asked for is still in the table.
lives() {
    IFS= read -r line 2>/dev/null <"/proc/$1/stat" || return
    case ${line##*) } in
        [ZX]*) return 1 ;;
    esac
}

while lives "$2"; do
    IFS= read -r -t 1 -u 3 word || {
        [ $? -gt 128 ] || sleep 1
        continue
    }
    [ "$word" = kill ] || continue
    echo "petset: another pet writes, and commits wait here that nobody was told of: mysqld is killed" >&2
    # mysqld is its container's first process, to which the kernel gives no KILL from within. So its limit of processor
    # time is put below what it has used, and the kernel itself kills it.
    [ "$2" = 1 ] || kill -KILL "$2"
    prlimit --pid "$2" --cpu=1:1 2>/dev/null || kill -ABRT "$2"
done
