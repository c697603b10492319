# shellcheck shell=sh disable=SC2154 # lib.sh sets what is not set here
# SPDX-License-Identifier: GPL-3.0-or-later
# The server's option file and what goes into SQL as text. Sourced by prepare.sh and start.sh, after lib.sh.

# ---- settings --------------------------------------------------------------------------------------------------------

# list_user_settings: user.cnf as lines of name=value, names as mysqld compares them (case, - and _, loose-).
list_user_settings() {
    sed -e 's/[[:space:]]*$//' -e 's/^[[:space:]]*//' -e '/^$/d' -e '/^[#;]/d' -e '/^\[/b' -e '/^!/b' \
        -e h -e 's/[[:space:]]*=.*//' -e 'y/-ABCDEFGHIJKLMNOPQRSTUVWXYZ/_abcdefghijklmnopqrstuvwxyz/' \
        -e 's/^loose_//' -e 's/^enable_//' -e 's/^maximum_//' \
        -e G -e 's/\n[^=]*//' -e 's/=[[:space:]]*/=/' "$run/user.cnf"
}

# check_user_settings: refuse what would weaken durability, and what is the pet's own. The file's order makes sure that
# it could not win; this says so instead of dropping it silently.
check_user_settings() {
    [ -r "$boot/user.cnf" ] || return 0
    { cat "$boot/user.cnf" && echo; } >"$run/user.cnf" # the line end may be missing
    list_user_settings >"$run/user-settings"
    while IFS= read -r line; do
        name=${line%%=*}
        value=
        case $line in
            *=*) value=${line#*=} ;;
        esac
        value=${value%%[[:space:]]#*}
        value=${value%"${value##*[![:space:]]}"}
        case $value in
            \"*\" | \'*\') value=${value#?} value=${value%?} ;;
        esac
        # [section], !include and names are judged; values only where durability hangs on them.
        case $name in
            '[mysqld]' | '[server]' | '[mysqld-'*']') ;;
            '['*) refuse bad-setting "user.cnf: mysqld does not read section $name" ;;
            '!'*) refuse bad-setting "user.cnf: '$name': files cannot be included" ;;
            sync_binlog | innodb_flush_log_at_trx_commit) [ "$value" = 1 ] || weak "$name" "$value" "1" ;;
            innodb_doublewrite)
                case $value in
                    '' | 1 | [Oo][Nn] | [Tt][Rr][Uu][Ee] | [Dd][Ee][Tt][Ee][Cc][Tt]_[Aa][Nn][Dd]_*) ;;
                    *) weak "$name" "$value" ON ;;
                esac
                ;;
            skip_innodb_doublewrite | disable_innodb_doublewrite) weak "$name" "$value" "innodb_doublewrite=ON" ;;
            innodb_flush_method)
                case $value in
                    [Ff][Ss][Yy][Nn][Cc] | [Oo]_[Dd][Ss][Yy][Nn][Cc] | [Oo]_[Dd][Ii][Rr][Ee][Cc][Tt] | 0 | 1 | 4) ;;
                    *) weak "$name" "$value" "fsync, O_DSYNC or O_DIRECT" ;;
                esac
                ;;
            innodb_force_recovery) [ "$value" = 0 ] || weak "$name" "$value" "0" ;;
            *)
                ! is_pets_own "$name" || refuse bad-setting "user.cnf: $name is set by the collection"
                ! is_partial "$name" "$value" || refuse bad-setting \
                    "user.cnf: $name = ${value:-(no value)}: a pet would not have, or not pass on, every transaction"
                ;;
        esac
    done <"$run/user-settings"
}

weak() {
    [ "$durability" = relaxed ] || refuse weak-durability \
        "user.cnf: $1 = ${2:-(no value)}: acknowledged writes could be lost; needs $3, or PETSET_DURABILITY=relaxed"
}

# is_partial NAME VALUE: would the pet lack transactions with it, or have others than were made? mycnf.py has the same
# list (WHOLE), with the reasons.
is_partial() {
    case $1 in
        skip_* | disable_*)
            set -- "${1#skip_}" -
            set -- "${1#disable_}" -
            ;;
    esac
    case $1 in
        binlog_do_db | binlog_ignore_db | init_replica | init_slave | replicate_do_db | replicate_do_table | \
            replicate_ignore_db | replicate_ignore_table | replicate_rewrite_db | replicate_same_server_id | \
            replicate_wild_do_table | replicate_wild_ignore_table) return 0 ;;
        binlog_format) case $2 in [Rr][Oo][Ww] | 2) return 1 ;; esac ;;
        relay_log_purge) case $2 in '' | 1 | [Oo][Nn] | [Tt][Rr][Uu][Ee]) return 1 ;; esac ;;
        replica_exec_mode | slave_exec_mode) case $2 in [Ss][Tt][Rr][Ii][Cc][Tt]) return 1 ;; esac ;;
        replica_skip_errors | slave_skip_errors | tc_heuristic_recover) case $2 in [Oo][Ff][Ff]) return 1 ;; esac ;;
        server_id_bits) case $2 in 32) return 1 ;; esac ;;
        *) return 1 ;;
    esac
    return 0
}

# is_pets_own NAME: is it set in the third part of petset.cnf.in, or would it undo something there?
is_pets_own() {
    case $1 in
        plugin_load_add) return 1 ;; # adds
        skip_log_bin | disable_log_bin | log_bin_index | relay_log_index | read_only | skip_read_only | \
            skip_super_read_only | skip_slave_start | skip_networking | skip_grant_tables | skip_log_replica_updates | \
            log_slave_updates | skip_log_slave_updates | init_file | initialize* | user | chroot | basedir | \
            daemonize | plugin_load | log_error | innodb_data_home_dir | innodb_undo_directory | \
            innodb_log_group_home_dir | innodb_doublewrite_dir | innodb_read_only | stack_trace | \
            skip_stack_trace | offline_mode | server_uuid | rpl_semi_sync_source_wait_for_replica_count) return 0 ;;
    esac
    case $1 in
        *[!a-z0-9_]*) return 1 ;; # no setting's name: mysqld will say so
    esac
    [ -n "$(sed '1,/^# ---- the pet/d' "$boot/petset.cnf.in" | sed -n -e 's/^loose_//' -e "s/^$1 = .*/yes/p")" ]
}

clamp() { # VALUE LOW HIGH
    if [ "$1" -lt "$2" ]; then echo "$2"; elif [ "$1" -gt "$3" ]; then echo "$3"; else echo "$1"; fi
}

# read_memory: the container's limit in MiB.
read_memory() {
    memory_mib=$((memory_bytes / 1048576))
    if [ "$memory_mib" -eq 0 ]; then
        memory_mib=768 # no limit known: stay small
    fi
}

# render_cnf: petset.cnf.in and user.cnf to $run/my.cnf, and the folders it names. The reasons for the numbers stand in
# petset.cnf.in.
render_cnf() {
    check_user_settings
    read_memory
    pool_mib=$(((memory_mib - 480) * 70 / 100))
    if [ "$pool_mib" -lt 1024 ]; then
        pool_instances=1
        pool_chunk_mib=16
        pool_mib=$(clamp "$pool_mib" 64 1024)
    else
        pool_instances=$(clamp $((pool_mib / 1024)) 1 8)
        pool_chunk_mib=128
    fi
    pool_mib=$((pool_mib / (pool_chunk_mib * pool_instances) * (pool_chunk_mib * pool_instances)))
    case $volume_type in
        nfs | nfs4) flush_method=fsync native_aio=OFF ;;
        *) flush_method=O_DIRECT native_aio=ON ;;
    esac
    case $durability in
        full) strict=r relaxed=d ;;
        relaxed) strict=d relaxed=r ;;
    esac
    [ -r "$boot/user.cnf" ] || strict=d relaxed=d
    stack_trace=
    command -v prlimit >/dev/null 2>&1 || stack_trace='/^skip_stack_trace$/d'
    sed -e "$stack_trace" -e "/^@USER_STRICT@/{" -e "$(insert_or_drop "$strict")" -e d -e '}' \
        -e "/^@USER_RELAXED@/{" -e "$(insert_or_drop "$relaxed")" -e d -e '}' \
        -e '/^[a-z#]/{' \
        -e "s|@MEMORY_MIB@|$memory_mib|" -e "s|@POOL_MIB@|$pool_mib|" -e "s|@POOL_CHUNK_MIB@|$pool_chunk_mib|" \
        -e "s|@POOL_INSTANCES@|$pool_instances|" -e "s|@MAX_CONNECTIONS@|$(clamp $((memory_mib / 8)) 64 1000)|" \
        -e "s|@TEMPTABLE_MIB@|$(clamp $((memory_mib / 20)) 16 1024)|" -e "s|@REDO_MIB@|$(clamp "$pool_mib" 128 2048)|" \
        -e "s|@LOG_BUFFER_MIB@|$(clamp $((memory_mib / 40)) 16 64)|" \
        -e "s|@TABLE_OPEN_CACHE@|$(clamp "$memory_mib" 400 4000)|" -e "s|@WORKERS@|$(clamp $((memory_mib / 50)) 4 16)|" \
        -e "s|@PENDING_MIB@|$(clamp $((memory_mib / 20)) 16 128)|" -e "s|@ACCOUNTS@|$(clamp $((memory_mib / 20)) 32 1000)|" \
        -e "s|@VOLUME_TYPE@|$volume_type|" -e "s|@FLUSH_METHOD@|$flush_method|" -e "s|@NATIVE_AIO@|$native_aio|" \
        -e "s|@SERVER_ID@|$server_id|" \
        -e "s|@REPORT_HOST@|$PETSET_POD.$PETSET_SERVICE.$PETSET_NAMESPACE.svc.$PETSET_DOMAIN|" \
        -e "s|@INCREMENT@|$masters|" -e "s|@OFFSET@|$((ordinal % masters + 1))|" \
        -e "s|@RUN@|$run|" -e "s|@DATA@|$data|" -e "s|@TLS@|$tls|" \
        -e '}' "$boot/petset.cnf.in" >"$run/my.cnf.new"
    mv -f "$run/my.cnf.new" "$run/my.cnf"
    # Of an earlier mysqld of this pod, perhaps a killed one; InnoDB would not start over its own old files.
    rm -rf "$run/tmp" "$run/innodb-temp"
    mkdir "$run/tmp" "$run/innodb-temp"
}

insert_or_drop() {
    case $1 in
        r) printf 'r %s' "$run/user.cnf" ;;
        d) printf '# (nothing of user.cnf here)' ;;
    esac
}

# ---- SQL -------------------------------------------------------------------------------------------------------------

# sql_string: standard input as an SQL string literal, for a session without ANSI_QUOTES and NO_BACKSLASH_ESCAPES. Byte
# by byte is right in UTF-8: no byte of a longer character is a quote or a backslash.
sql_string() {
    printf "'"
    sed -e 's/\\/\\\\/g' -e "s/'/\\\\'/g" | tr -d '\n'
    printf "'"
}

# sql_name: standard input as an identifier; sql_pattern: the same where GRANT would read _ and % as wildcards.
sql_name() {
    # shellcheck disable=SC2016 # backquotes of SQL
    printf '`%s`' "$(sed -e 's/`/``/g' | tr -d '\n')"
}
sql_pattern() {
    # shellcheck disable=SC2016
    printf '`%s`' "$(sed -e 's/`/``/g' -e 's/[_%\\]/\\&/g' | tr -d '\n')"
}

# check_secret NAME LIMIT_BYTES: fit to be quoted. A line end at the end of the file does not belong to the value.
check_secret() {
    [ -r "$secret/$1" ] || refuse bad-secret "key $1 is missing in the Secret"
    nul=$(tr -cd '\000' <"$secret/$1" | wc -c)
    bytes=$(tr -d '\n' <"$secret/$1" | wc -c)
    control=$(printf '%s' "$(tr -d '\000' <"$secret/$1")" | tr -cd '\001-\037\177' | wc -c)
    [ "$bytes" -gt 0 ] || refuse bad-secret "key $1 of the Secret is empty"
    [ $((control + nul)) -eq 0 ] || refuse bad-secret "key $1 of the Secret has control characters or several lines"
    [ "$bytes" -le "$2" ] || refuse bad-secret "key $1 of the Secret has $bytes bytes, MySQL takes $2"
}
