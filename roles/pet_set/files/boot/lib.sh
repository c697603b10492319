# shellcheck shell=sh disable=SC2034 # what is set here is used by the scripts that source this
# SPDX-License-Identifier: GPL-3.0-or-later
# What prepare.sh, start.sh and probe.sh share. POSIX sh, coreutils and sed, nothing else: it must run in any image
# that has mysqld. Sourced, never run. Meaning of each refusal, its exit status and the way out: docs/boot.md.

set -eu
umask 077
LC_ALL=C
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH

# Tests move everything below another root; in a pod PETSET_ROOT is not set.
root=${PETSET_ROOT:-}
boot=$root/petset/boot
secret=$root/petset/secret
tls=$root/petset/tls
run=$root/petset/run
scratch=$root/petset/scratch
volume=$root/var/lib/petset
data=$volume/data
identity_name=.petset-identity.json
proc=${PETSET_PROC:-/proc}
termination_log=${PETSET_TERMINATION_LOG:-$root/dev/termination-log}

say() {
    printf 'petset: %s\n' "$*" >&2
}

# refuse REASON MESSAGE...: one line to the log and to the pod's status, and an exit status of its own.
refuse() {
    reason=$1
    shift
    case $reason in
        bad-environment) status=10 ;;
        not-mounted) status=11 ;;
        nfs-options) status=12 ;;
        read-only) status=13 ;;
        unwritable) status=14 ;;
        wrong-owner) status=15 ;;
        no-space) status=16 ;;
        stale) status=17 ;;
        unknown-content) status=20 ;;
        data-missing) status=21 ;;
        known-pet-empty) status=22 ;;
        other-set) status=23 ;;
        other-namespace) status=24 ;;
        other-ordinal) status=25 ;;
        uuid-mismatch) status=26 ;;
        identity-unreadable) status=27 ;;
        locked) status=30 ;;
        no-locks) status=31 ;;
        not-prepared) status=32 ;;
        bad-secret) status=40 ;;
        bad-setting) status=41 ;;
        weak-durability) status=42 ;;
        init-failed) status=43 ;;
        *) status=99 ;;
    esac
    say "refused: $reason: $*"
    report "petset: refused: $reason: $*"
    exit "$status"
}

# report LINE: what the pod's status shows as the container's message.
report() {
    { printf '%s\n' "$1" >"$termination_log"; } 2>/dev/null || :
}

# ---- the agent -------------------------------------------------------------------------------------------------------

# ask_agent PATH: "STATUS TEXT" of its answer; nothing when there is none. Only bash can open a connection.
ask_agent() {
    # shellcheck disable=SC2016 # bash's to expand
    bash -c '
        exec 3<>"/dev/tcp/127.0.0.1/$1" || exit
        printf "GET %s HTTP/1.0\r\n\r\n" "$2" >&3
        IFS=" " read -r -t 2 -u 3 _ status _ || exit
        while IFS= read -r -t 2 -u 3 line && [ "${line%"$3"}" ]; do :; done
        IFS= read -r -t 2 -u 3 text || text=
        echo "$status $text"' - "${PETSET_AGENT_PORT:-8008}" "$1" "$(printf '\r')" 2>/dev/null
}

# ---- environment -----------------------------------------------------------------------------------------------------

# A number as the API writes it: no sign, no leading zero.
is_number() {
    case $1 in
        '' | *[!0-9]* | 0?*) return 1 ;;
    esac
    [ "${#1}" -le 18 ]
}

is_name() {
    case $1 in
        '' | *[!a-z0-9.-]* | [.-]* | *[.-]) return 1 ;;
    esac
}

# Everything from the environment that ends in a file or in a setting is checked here, so that the rest may trust it.
require_environment() {
    for name in PETSET_SET PETSET_NAMESPACE PETSET_POD PETSET_SERVICE PETSET_DOMAIN; do
        value=
        eval "value=\${$name:-}"
        is_name "$value" || refuse bad-environment "$name is '$value': a DNS name is needed"
    done
    ordinal=${PETSET_ORDINAL:-${PETSET_POD##*-}}
    is_number "$ordinal" || refuse bad-environment "PETSET_ORDINAL is '$ordinal': a number from 0 is needed"
    [ "$PETSET_POD" = "$PETSET_SET-$ordinal" ] ||
        refuse bad-environment "pod $PETSET_POD is not pet $ordinal of set $PETSET_SET ($PETSET_SET-$ordinal)"
    server_id_base=${PETSET_SERVER_ID_BASE:-1000}
    is_number "$server_id_base" ||
        refuse bad-environment "PETSET_SERVER_ID_BASE is '$server_id_base': a number is needed"
    server_id=$((server_id_base + ordinal))
    if [ "$server_id" -lt 1 ] || [ "$server_id" -gt 4294967295 ]; then
        refuse bad-environment "server_id $server_id (PETSET_SERVER_ID_BASE + ordinal) is not within 1 to 4294967295"
    fi
    memory_bytes=${PETSET_MEMORY_LIMIT_BYTES:-0}
    is_number "$memory_bytes" || refuse bad-environment "PETSET_MEMORY_LIMIT_BYTES is '$memory_bytes': bytes are needed"
    masters=${PETSET_MASTERS:-2}
    { is_number "$masters" && [ "$masters" -ge 1 ] && [ "$masters" -le 65535 ]; } ||
        refuse bad-environment "PETSET_MASTERS is '$masters': a number from 1 to 65535 is needed"
    durability=${PETSET_DURABILITY:-full}
    case $durability in
        full | relaxed) ;;
        *) refuse bad-environment "PETSET_DURABILITY is '$durability': full or relaxed is needed" ;;
    esac
}

# ---- the volume ------------------------------------------------------------------------------------------------------

# check_mount: the volume is a mount of its own, and if it is NFS, one that InnoDB's locks and syncs can rely on.
# Sets volume_type, and volume_lease_s on NFS (empty where the kernel does not say).
check_mount() {
    found=
    while read -r _ _ _ _ point options more; do
        [ "$point" = "$volume" ] || continue
        found=$options # the last one is on top
        rest=" $more"
    done <"$proc/self/mountinfo"
    [ -n "$found" ] ||
        refuse not-mounted "nothing is mounted at $volume: this is the container's own, short-lived file system"
    rest=${rest#* - }
    volume_type=${rest%% *}
    rest=${rest#* }
    volume_source=${rest%% *}
    volume_options=${rest##* }
    volume_lease_s=
    case ,$found,$volume_options, in
        *,ro,*) refuse read-only "$volume_source is mounted read-only at $volume" ;;
    esac
    case $volume_type in
        nfs | nfs4) check_nfs ;;
    esac
}

check_nfs() {
    version=
    wrong=
    transport=tcp
    old_ifs=$IFS
    IFS=,
    # shellcheck disable=SC2086 # split at the commas
    set -f -- $volume_options
    set +f
    IFS=$old_ifs
    for option in "$@"; do
        case $option in
            vers=*) version=${option#vers=} ;;
            soft | softerr) wrong="$wrong, $option (an outage becomes an I/O error: needs hard)" ;;
            nolock) wrong="$wrong, nolock (locks would be this node's own)" ;;
            local_lock=none) ;;
            local_lock=*) wrong="$wrong, $option (locks would be this node's own)" ;;
            proto=*) transport=${option#proto=} ;;
        esac
    done
    case $version in
        4.[1-9]*) ;;
        *) wrong="vers=${version:-unknown} (needs 4.1 or later)$wrong" ;;
    esac
    case $transport in
        tcp | tcp6 | rdma | rdma6) ;;
        *) wrong="$wrong, proto=$transport (needs tcp or rdma)" ;;
    esac
    check_mountstats
    [ -z "$wrong" ] || refuse nfs-options "$volume_source is mounted with ${wrong#, }: correct the volume's mount" \
        "options (or the server), then delete the pod: options change only with a new mount"
}

# The kernel's own account of this mount: is a pNFS layout in use, and how long is the server's lease?
check_mountstats() {
    [ -r "$proc/self/mountstats" ] || return 0
    ours=no
    while IFS= read -r line; do
        case $line in
            device\ *" mounted on $volume with fstype nfs"*) ours=yes ;;
            device\ *) ours=no ;;
            *pnfs=*)
                if [ "$ours" = yes ]; then
                    layout=${line#*pnfs=}
                    layout=${layout%%,*}
                    [ "$layout" = "not configured" ] || wrong="$wrong, pNFS layout $layout (needs none)"
                fi
                ;;
        esac
        case $ours,$line in
            yes,*lease_time=*)
                volume_lease_s=${line#*lease_time=}
                volume_lease_s=${volume_lease_s%%[!0-9]*}
                ;;
        esac
    done <"$proc/self/mountstats"
}

# explain_error TEXT WHAT: refuse by the words of a failed command on the volume.
explain_error() {
    case $1 in
        *"Stale file handle"*)
            refuse stale "$2: Stale file handle: the export was withdrawn or made anew; delete the pod to mount again"
            ;;
        *"No space left"* | *"quota exceeded"*) refuse no-space "$2: ${1##*: }" ;;
        *"Read-only file system"*) refuse read-only "$2: the server exports it read-only" ;;
        *"Permission denied"* | *"Operation not permitted"*)
            owner=$(stat -c '%u:%g' "$volume" 2>/dev/null) || owner=unknown
            mode=$(stat -c '%a' "$volume" 2>/dev/null) || mode=unknown
            me=$(id -u)
            if [ "${owner%%:*}" = "$me" ]; then
                refuse unwritable "$2: ${1##*: }: owner $owner, mode $mode; look at the export's squash options"
            fi
            refuse wrong-owner "$2: ${1##*: }: the folder belongs to $owner, mode $mode, and mysqld runs as" \
                "$me:$(id -g): set the owner on the server"
            ;;
        *) refuse unwritable "$2: ${1##*: }" ;;
    esac
}

# A block really written and synced: modes, squashing, quotas and exports lie; this does not.
check_writable() {
    test_file=$volume/.petset-write-test
    if ! said=$(dd if=/dev/zero of="$test_file" bs=4096 count=1 conv=fsync 2>&1); then
        rm -f "$test_file" 2>/dev/null || :
        explain_error "$(printf '%s\n' "$said" | sed 1q)" "cannot write to $volume"
    fi
    rm -f "$test_file"
}

# check_free_mib NEEDED
check_free_mib() {
    set -- "$1" "$(stat -f -c %a "$volume")" "$(stat -f -c %S "$volume")"
    free_mib=$(($2 * $3 / 1048576))
    [ "$free_mib" -ge "$1" ] || refuse no-space "$volume has $free_mib MiB free, a first start needs $1 MiB"
}

# free_lost_lock FILE: give a lock back that a process of this node took and nobody holds any more. One that ended while its
# export was away could not close its files, and the server keeps their locks for as long as the node is its client. It
# knows an open file by node and user: who opens it again and closes it, closes the lost one. What another process has
# open, on this node or on another, is not closed by that. What cannot be opened is told by whoever needs it next.
free_lost_lock() {
    { true 3<"$1"; } 2>/dev/null || :
}

# take_lock: hold the volume's lock for the life of this process; mysqld inherits it by exec. On NFS the kernel turns
# it into a lock at the server, so it holds between nodes; it falls when the process ends, or the dead node's lease.
# An image without flock(1) has InnoDB's own lock on its files as the only, and last, guard.
take_lock() {
    if ! command -v flock >/dev/null 2>&1; then
        say "this image has no flock; InnoDB's own locks guard the data folder"
        return 0
    fi
    limit_s=${PETSET_LOCK_WAIT_S:-150}
    waited_s=0
    while :; do
        free_lost_lock "$volume/.petset-lock"
        exec 9>>"$volume/.petset-lock"
        lock_status=0
        said=$(flock -n 9 2>&1) || lock_status=$?
        [ "$lock_status" -ne 0 ] || break
        [ "$lock_status" -eq 1 ] || refuse no-locks "cannot lock $volume/.petset-lock: ${said##*: }"
        exec 9>&-
        holder=$(sed 1q "$volume/.petset-lock" 2>/dev/null) || holder=
        if [ "$waited_s" -ge "$limit_s" ]; then
            refuse locked "$volume is in use by ${holder:-another start of this pet} (waited $waited_s s; docs/boot.md, Locks)"
        fi
        [ $((waited_s % 10)) -ne 0 ] ||
            say "waiting for the lock of ${holder:-another start of this pet}: $waited_s of $limit_s s;" \
                "the server frees a dead node's locks after its lease${volume_lease_s:+ of $volume_lease_s s}"
        sleep 1
        waited_s=$((waited_s + 1))
    done
    printf 'pod %s uid %s on %s since %s\n' "$PETSET_POD" "${PETSET_POD_UID:-unknown}" "${PETSET_NODE:-unknown}" \
        "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >"$volume/.petset-lock"
}

# ---- identity --------------------------------------------------------------------------------------------------------

# json_value FILE KEY: a string or a number of our flat identity file; empty if not there.
json_value() {
    sed -n 's/.*"'"$2"'"[[:space:]]*:[[:space:]]*"\{0,1\}\([^",}[:space:]]*\).*/\1/p' "$1" | sed 1q
}

# render_identity SERVER_UUID
render_identity() {
    cat <<END
{
  "format": 1,
  "set": "$PETSET_SET",
  "namespace": "$PETSET_NAMESPACE",
  "ordinal": $ordinal,
  "server_uuid": "$1",
  "created": "$(date -u +%Y-%m-%dT%H:%M:%SZ)",
  "generation": 1
}
END
}

# check_owner FILE: the identity in FILE is this pet's. Sets server_uuid and generation.
check_owner() {
    if ! said=$(cat "$1" 2>&1 >/dev/null); then
        refuse identity-unreadable "$1: ${said##*: }"
    fi
    set -- "$1" "$(json_value "$1" format)" "$(json_value "$1" set)" "$(json_value "$1" namespace)" \
        "$(json_value "$1" ordinal)"
    server_uuid=$(json_value "$1" server_uuid)
    generation=$(json_value "$1" generation)
    if [ -z "$2" ] || [ -z "$3" ] || [ -z "$4" ] || [ -z "$5" ] || [ -z "$server_uuid" ]; then
        refuse identity-unreadable "$1 is not a whole identity file: restore it, or correct it by hand"
    fi
    [ "$2" = 1 ] || refuse identity-unreadable "$1 has format $2, which this version does not know"
    whose="pet $5 of set $3 in namespace $4"
    [ "$3" = "$PETSET_SET" ] || refuse other-set "the folder belongs to $whose, this is set $PETSET_SET"
    [ "$4" = "$PETSET_NAMESPACE" ] ||
        refuse other-namespace "the folder belongs to $whose, this is namespace $PETSET_NAMESPACE"
    [ "$5" = "$ordinal" ] || refuse other-ordinal "the folder belongs to $whose, this is pet $ordinal"
}

# known_uuid: the server_uuid that the set's own record, outside of the volume, has for this pet; empty if none.
known_uuid() {
    [ -r "$boot/known-pets" ] || return 0
    sed -n "s/^[[:space:]]*${ordinal}[[:space:]][[:space:]]*\([0-9A-Fa-f-]*\).*/\1/p" "$boot/known-pets" | sed 1q
}

# uuid_in FOLDER: mysqld's own idea of who it is.
uuid_in() {
    [ -r "$1/auto.cnf" ] || return 0
    sed -n 's/^[[:space:]]*server-uuid[[:space:]]*=[[:space:]]*\([0-9A-Fa-f-]*\).*/\1/p' "$1/auto.cnf" | sed 1q
}

# is_whole FOLDER: has what every MySQL's data folder has, and an empty mount has not.
is_whole() {
    [ -e "$1/mysql.ibd" ] && [ -d "$1/mysql" ]
}

# foreign_entry: the first entry of the volume that is not ours and not the file system's own; empty if none.
foreign_entry() {
    for entry in "$volume"/* "$volume"/.[!.]* "$volume"/..?*; do
        { [ -e "$entry" ] || [ -L "$entry" ]; } || continue
        case ${entry##*/} in
            lost+found | .snapshot | .snapshots | .zfs | .nfs* | .petset-* | .data.new-* | .trash-*) ;;
            *)
                printf '%s\n' "${entry##*/}"
                return 0
                ;;
        esac
    done
}

# check_identity: decide what the volume is, reading only.
# Sets verdict: fresh (nothing there, nothing ever was), unsigned (complete, the kill came before the identity file was
# written) or known; and server_uuid, generation. Refuses everything else.
check_identity() {
    [ -d "$volume" ] || refuse not-mounted "$volume is not a folder"
    if ! said=$(ls -A "$volume" 2>&1 >/dev/null); then
        explain_error "$said" "cannot read $volume"
    fi
    expected=$(known_uuid)
    if [ -e "$volume/$identity_name" ]; then
        verdict=known
        check_owner "$volume/$identity_name"
    elif [ -e "$data/$identity_name" ]; then
        verdict=unsigned
        check_owner "$data/$identity_name"
    else
        entry=$(foreign_entry)
        [ -z "$entry" ] || refuse unknown-content \
            "$volume has no identity file but is not empty (first entry: $entry): it may be another's data, or this" \
            "pet's with its identity lost; nothing is initialised over it"
        [ -z "$expected" ] || refuse known-pet-empty \
            "$volume is empty but this pet had data (server_uuid $expected in known-pets): is the right export" \
            "mounted? To start it anew remove its line from known-pets"
        verdict=fresh
        return 0
    fi
    is_whole "$data" || refuse data-missing \
        "$volume has the identity of this pet but $data is gone or not whole; nothing is initialised over lost data:" \
        "bring it back, or remove $volume/$identity_name to start this pet anew"
    found=$(uuid_in "$data")
    [ "$found" = "$server_uuid" ] || refuse uuid-mismatch \
        "identity says server_uuid $server_uuid, $data/auto.cnf says ${found:-nothing}: one of them came from elsewhere"
    [ -z "$expected" ] || [ "$expected" = "$server_uuid" ] || refuse uuid-mismatch \
        "this is server_uuid $server_uuid but known-pets expects $expected for pet $ordinal: another volume is mounted"
    data_owner=$(stat -c %u "$data/mysql.ibd")
    [ "$data_owner" = "$(id -u)" ] || refuse wrong-owner \
        "$data/mysql.ibd belongs to uid $data_owner and mysqld runs as $(id -u): set the owner on the server"
}

# repair_modes: mysqld passes over an auto.cnf that everybody may write, takes a new server_uuid, and its history forks.
# Squashing servers and restores leave such files. Only after check_identity: it is this pet's own file.
repair_modes() {
    mode=$(stat -c %a "$data/auto.cnf")
    case $mode in
        *[2367]) ;;
        *) return 0 ;;
    esac
    chmod 0640 "$data/auto.cnf" || refuse wrong-owner "$data/auto.cnf has mode $mode: set 0640 on the server"
    say "$data/auto.cnf had mode $mode, which mysqld does not trust: it is 0640 now"
}

# sign: publish the data folder's identity, whole or not at all.
sign() {
    cat "$data/$identity_name" >"$volume/.petset-identity.new"
    sync "$volume/.petset-identity.new"
    mv -f "$volume/.petset-identity.new" "$volume/$identity_name"
    sync "$volume"
}
