#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Starts mysqld by the rules that users of the vendor's image rely on, in our own words:
# - options alone mean mysqld; any other command runs untouched, as whoever it was started as
# - started as root: give the data folder to mysql and go on as mysql
# - an empty data folder is initialised, but only if the environment says which password root gets:
#   MYSQL_ROOT_PASSWORD, MYSQL_RANDOM_ROOT_PASSWORD or MYSQL_ALLOW_EMPTY_PASSWORD (each NAME also as NAME_FILE)
# - then MYSQL_DATABASE, MYSQL_USER and MYSQL_PASSWORD, and the files in /docker-entrypoint-initdb.d, in order
# - a data folder that has a database is left as it is, whatever the environment says
set -euo pipefail
shopt -s nullglob

say() { printf '%s [%s] [Entrypoint]: %s\n' "$(date --rfc-3339=seconds)" "$1" "$2" >&2; }
fail() { say ERROR "$1"; exit 1; }

# The value of NAME, or the content of the file that NAME_FILE names; never both.
from_environment() {
    local name=$1 file_name=${1}_FILE
    if [[ -n ${!name:-} && -n ${!file_name:-} ]]; then
        fail "both $name and $file_name are set, they exclude each other"
    fi
    if [[ -n ${!file_name:-} ]]; then
        printf -v "$name" '%s' "$(<"${!file_name}")"
    fi
    export "$name=${!name:-}"
    unset "$file_name"
}

# The absolute path that the server will use for an option, from its own mouth: command line, files and defaults are
# all in it. Only the table at its end starts lines with the option's name. It is read to the end: a pipe closed early
# would make the server fail. Whatever is no path is refused: the answer is about to be given to chown.
path_of() {
    local value
    value=$("${command[@]}" --verbose --help 2>/dev/null |
        awk -v name="$1" 'index($0, name " ") == 1 && !found { found = 1; print $2 }')
    [[ $value == /?* ]] || fail "mysqld gives no absolute path for $1: '$value'"
    printf '%s' "${value%/}"
}

escaped() { local text=${1//\\/\\\\}; printf '%s' "${text//\'/\\\'}"; }

# The client at the temporary server; the password goes by a file descriptor, not by the command line.
client() {
    mysql --defaults-extra-file=<(printf '[client]\npassword="%s"\n' "${client_password//\"/\\\"}") \
        --protocol=socket --socket="$socket" -uroot --comments "$@"
}

initialise() {
    if [[ -z $MYSQL_ROOT_PASSWORD && -z $MYSQL_ALLOW_EMPTY_PASSWORD && -z $MYSQL_RANDOM_ROOT_PASSWORD ]]; then
        fail 'the database is not initialised and no password option is given: set one of MYSQL_ROOT_PASSWORD, MYSQL_ALLOW_EMPTY_PASSWORD, MYSQL_RANDOM_ROOT_PASSWORD'
    fi
    if [[ ${MYSQL_USER:-} == root ]]; then
        fail 'MYSQL_USER="root": MYSQL_USER and MYSQL_PASSWORD are for a regular user, use MYSQL_ROOT_PASSWORD for root'
    fi
    say Note 'Initialising the database'
    "${command[@]}" --initialize-insecure --default-time-zone=SYSTEM --autocommit=1

    say Note 'Starting a temporary server'
    "${command[@]}" --skip-networking --default-time-zone=SYSTEM --autocommit=1 --socket="$socket" --mysqlx=OFF &
    local server=$! client_password='' tries
    for ((tries = 600; tries > 0; tries--)); do
        if client --database=mysql -e 'SELECT 1' >/dev/null 2>&1; then break; fi
        kill -0 "$server" 2>/dev/null || fail 'the temporary server ended'
        sleep 0.1
    done
    ((tries > 0)) || fail 'the temporary server does not answer'

    if [[ -n $MYSQL_RANDOM_ROOT_PASSWORD ]]; then
        MYSQL_ROOT_PASSWORD=$(openssl rand -base64 24)
        say Note "GENERATED ROOT PASSWORD: $MYSQL_ROOT_PASSWORD"
    fi
    local password host=${MYSQL_ROOT_HOST:-%}
    password=$(escaped "$MYSQL_ROOT_PASSWORD")
    {
        echo 'SET @@SESSION.SQL_LOG_BIN = 0;'
        echo "ALTER USER 'root'@'localhost' IDENTIFIED BY '$password';"
        if [[ $host != localhost ]]; then
            echo "CREATE USER 'root'@'$(escaped "$host")' IDENTIFIED BY '$password';"
            echo "GRANT ALL ON *.* TO 'root'@'$(escaped "$host")' WITH GRANT OPTION;"
        fi
        echo 'DROP DATABASE IF EXISTS test;'
    } | client --database=mysql
    client_password=$MYSQL_ROOT_PASSWORD
    {
        if [[ -n $MYSQL_DATABASE ]]; then echo "CREATE DATABASE IF NOT EXISTS \`$MYSQL_DATABASE\`;"; fi
        if [[ -n $MYSQL_USER && -n $MYSQL_PASSWORD ]]; then
            echo "CREATE USER '$(escaped "$MYSQL_USER")'@'%' IDENTIFIED BY '$(escaped "$MYSQL_PASSWORD")';"
            if [[ -n $MYSQL_DATABASE ]]; then
                echo "GRANT ALL ON \`${MYSQL_DATABASE//_/\\_}\`.* TO '$(escaped "$MYSQL_USER")'@'%';"
            fi
        fi
    } | client --database=mysql

    local file
    for file in /docker-entrypoint-initdb.d/*; do
        say Note "Running $file"
        case $file in
        *.sh) if [[ -x $file ]]; then "$file"; else . "$file"; fi ;;
        *.sql) client ${MYSQL_DATABASE:+--database="$MYSQL_DATABASE"} <"$file" ;;
        *.sql.gz) gzip -dc "$file" | client ${MYSQL_DATABASE:+--database="$MYSQL_DATABASE"} ;;
        *) say Warn "Ignoring $file" ;;
        esac
    done
    if [[ -n ${MYSQL_ONETIME_PASSWORD:-} ]]; then
        client --database=mysql -e "ALTER USER 'root'@'${host}' PASSWORD EXPIRE"
    fi

    say Note 'Stopping the temporary server'
    kill "$server"
    wait "$server" || fail 'the temporary server did not stop well'
    say Note 'Initialised, ready to start'
}

if [[ ${1:-} == -* ]]; then
    set -- mysqld "$@"
fi
command=("$@")

asks_only=''
for argument; do
    case $argument in
    '-?' | --help | --print-defaults | -V | --version) asks_only=yes ;;
    esac
done

if [[ ${1:-} == mysqld && -z $asks_only ]]; then
    if ! complaint=$("${command[@]}" --verbose --help 2>&1 >/dev/null); then
        fail "mysqld refuses its configuration: $complaint"
    fi
    datadir=$(path_of datadir)
    socket=$(path_of socket)
    for name in MYSQL_ROOT_PASSWORD MYSQL_ROOT_HOST MYSQL_DATABASE MYSQL_USER MYSQL_PASSWORD \
        MYSQL_ALLOW_EMPTY_PASSWORD MYSQL_RANDOM_ROOT_PASSWORD; do
        from_environment "$name"
    done
    mkdir -p "$datadir" "$(dirname "$socket")"
    if [[ $(id -u) == 0 ]]; then
        find "$datadir" "$(dirname "$socket")" \! -user mysql -exec chown mysql: '{}' +
        say Note "Going on as user 'mysql'"
        exec setpriv --reuid=mysql --regid=mysql --clear-groups -- "${BASH_SOURCE[0]}" "$@"
    fi
    if [[ ! -d $datadir/mysql ]]; then
        initialise
    fi
fi
exec "$@"
