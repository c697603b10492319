#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The pet's init container: make sure that the volume holds this pet's complete data folder, or refuse.
#
# A first start initialises beside, on the node's own storage, copies the result into a side folder of the volume, and
# publishes it with one rename. A kill at any moment leaves no data folder or a whole one; the next run begins again or
# only writes the identity file that is still missing. Nothing is ever initialised over anything.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "${0%/*}/lib.sh"
# shellcheck source=settings.sh
. "${0%/*}/settings.sh"

child=
trap 'if [ -n "$child" ]; then kill -KILL "$child"; fi; exit 143' TERM INT

# mysqld's own words, without the time.
first_error() {
    sed -n 's/.*\[ERROR\] //p' | sed 1q
}

# run_mysqld WHAT OPTION...: to its end, in the background so that a TERM is heard; its words are shown if it fails.
run_mysqld() {
    what=$1
    shift
    status=0
    mysqld --defaults-file="$run/my.cnf" "$@" --datadir="$work/data" --skip-log-bin --skip-log-replica-updates \
        --gtid-mode=OFF --enforce-gtid-consistency=OFF --super-read-only=OFF --read-only=OFF --skip-networking \
        --admin-address= --innodb-redo-log-capacity=16M --innodb-flush-log-at-trx-commit=0 --innodb-doublewrite=OFF \
        --socket="$work/mysqld.sock" --pid-file="$work/mysqld.pid" >"$work/log" 2>&1 &
    child=$!
    wait "$child" || status=$?
    child=
    if [ "$status" -ne 0 ]; then
        cat "$work/log" >&2
        refuse init-failed "mysqld $what ended with status $status: $(first_error <"$work/log")"
    fi
}

# render_accounts: who may do what. Not in the binary log: every pet makes the same accounts and starts with the same,
# empty, GTID set. The passwords are in this text only, in a file of mode 0600 that is gone before the copy is made.
render_accounts() {
    cat <<END
SET SESSION sql_log_bin = 0;
SET SESSION sql_mode = 'STRICT_ALL_TABLES';
SET NAMES utf8mb4;
ALTER USER 'root'@'localhost' IDENTIFIED BY $(sql_string <"$secret/root-password");
CREATE USER 'petset_repl'@'%' IDENTIFIED BY $(sql_string <"$secret/replication-password") REQUIRE SSL;
GRANT REPLICATION SLAVE, BACKUP_ADMIN ON *.* TO 'petset_repl'@'%';
CREATE USER 'petset_admin'@'127.0.0.1' IDENTIFIED BY $(sql_string <"$secret/admin-password") REQUIRE SSL;
GRANT CREATE USER, PROCESS, REPLICATION CLIENT, SELECT ON *.* TO 'petset_admin'@'127.0.0.1';
GRANT CLONE_ADMIN, CONNECTION_ADMIN, REPLICATION_SLAVE_ADMIN, SERVICE_CONNECTION_ADMIN, SYSTEM_VARIABLES_ADMIN
    ON *.* TO 'petset_admin'@'127.0.0.1';
GRANT CREATE, DROP, INSERT, SELECT ON petset.* TO 'petset_admin'@'127.0.0.1' WITH GRANT OPTION;
CREATE USER 'petset_agent'@'localhost' IDENTIFIED BY $(sql_string <"$secret/agent-password");
GRANT CONNECTION_ADMIN, REPLICATION CLIENT, REPLICATION_SLAVE_ADMIN, SERVICE_CONNECTION_ADMIN, SYSTEM_USER,
    SYSTEM_VARIABLES_ADMIN ON *.* TO 'petset_agent'@'localhost';
GRANT SELECT ON performance_schema.* TO 'petset_agent'@'localhost';
GRANT CREATE, INSERT, SELECT, UPDATE ON petset.* TO 'petset_agent'@'localhost';
END
    if [ -e "$secret/app-user" ]; then
        app="$(sql_string <"$secret/app-user")@'%'"
        cat <<END
CREATE USER $app IDENTIFIED BY $(sql_string <"$secret/app-password");
CREATE DATABASE $(sql_name <"$secret/app-database");
GRANT ALL ON $(sql_pattern <"$secret/app-database").* TO $app;
END
    fi
    # The last word: whatever failed before it has stopped mysqld with an error, and this has not run.
    echo "SHUTDOWN;"
}

check_secrets() {
    check_secret root-password 255
    check_secret replication-password 32
    check_secret admin-password 255
    check_secret agent-password 255
    if [ -e "$secret/app-user" ]; then
        check_secret app-user 32
        check_secret app-password 255
        check_secret app-database 64
    fi
    for file in ca.crt tls.crt tls.key; do
        { [ -s "$tls/$file" ] && [ -r "$tls/$file" ]; } ||
            refuse bad-secret "$tls/$file is missing, empty or not readable for uid $(id -u)"
    done
}

first_start() {
    check_free_mib "${PETSET_FIRST_START_MIB:-512}"
    # The agent's, of data that are gone.
    rm -f "$volume/.petset-guarded" "$volume/.petset-cut" "$volume/.petset-spoilt"
    work=$scratch/init
    rm -rf "$work"
    mkdir -p "$work"
    say "first start of pet $ordinal: initialising on the node's own storage"
    run_mysqld --initialize-insecure --initialize-insecure
    render_accounts >"$work/accounts.sql"
    run_mysqld "making the accounts" --init-file="$work/accounts.sql"
    rm -f "$work/accounts.sql"
    server_uuid=$(uuid_in "$work/data")
    generation=1
    [ -n "$server_uuid" ] || refuse init-failed "no server_uuid in auto.cnf after --initialize-insecure"
    say "copying $(du -sm "$work/data" | sed 's/[[:space:]].*//') MiB to the volume"
    side=$volume/.data.new-$server_uuid
    if ! said=$(cp -R "$work/data" "$side" 2>&1); then
        explain_error "$(printf '%s\n' "$said" | sed 1q)" "cannot copy the new data folder to $volume"
    fi
    render_identity "$server_uuid" >"$side/$identity_name"
    if ! said=$(sync -f "$side/$identity_name" 2>&1); then # the whole file system: cheaper than file by file
        explain_error "$said" "cannot sync $volume"
    fi
    # The commit. Refused by the kernel if a data folder is there by now.
    if ! said=$(mv -T "$side" "$data" 2>&1); then
        refuse locked "cannot publish the new data folder, another start of this pet was here: ${said##*: }"
    fi
    sync "$volume"
    sign
    rm -rf "$work"
}

# What an interrupted first start left. Renamed first: if its owner still runs elsewhere, its own rename now fails.
discard_leftovers() {
    for entry in "$volume"/.data.new-*; do
        [ ! -d "$entry" ] || mv -T "$entry" "$volume/.trash-${entry##*/.data.new-}"
    done
    rm -rf "$volume"/.trash-*
}

main() {
    require_environment
    check_mount
    check_identity
    check_writable
    take_lock
    check_identity # again: another start may have been at work until it let the lock go
    discard_leftovers
    render_cnf
    if ! said=$(mysqld --defaults-file="$run/my.cnf" --validate-config 2>&1); then
        printf '%s\n' "$said" >&2
        refuse bad-setting "mysqld does not take the settings: $(printf '%s\n' "$said" | first_error)"
    fi
    case $verdict in
        fresh)
            check_secrets
            first_start
            ;;
        unsigned)
            say "the first start was interrupted after its data folder was complete; writing the identity file"
            sign
            ;;
    esac
    say "pet $ordinal of set $PETSET_SET in $PETSET_NAMESPACE, server_uuid $server_uuid, data $verdict"
    report "petset: prepared: ordinal=$ordinal server_uuid=$server_uuid generation=$generation data=$verdict"
}

main
