#!/usr/bin/env bash
# Makes two users of etcd with no more rights than they use: the controller's, and the one that APISIX reads as. Can be run
# again at any time: what is as it should be is not touched. Nothing is deleted but rights that a role should not have.
# How to reach etcd is said as to etcdctl itself, by its ETCDCTL_* variables. Passwords come from files and go to etcdctl
# by standard input or by the environment, never by a command line.
set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: roles.sh [FLAG VALUE]...

Makes users and roles in etcd for apisix-etcd-controller and for the APISIX data planes. Each flag can also be given in the
environment, by the name beside it.

  --prefix PREFIX                    the prefix that APISIX reads [/apisix]                              ROLES_PREFIX
  --more-prefixes PREFIX,...         prefixes that other data planes of the controller read: it may
                                     write these, too, and this data plane user may not read them        ROLES_MORE_PREFIXES
  --control-prefix PREFIX            the controller's own prefix [/gateway-api-etcd]                     ROLES_CONTROL_PREFIX
  --instance NAME                    the controller's instance [default]                                 ROLES_INSTANCE
  --controller-user NAME             user and role of the controller [gateway-api]                       ROLES_CONTROLLER_USER
  --controller-password-file FILE    its password; none: by client certificate of that common name       ROLES_CONTROLLER_PASSWORD_FILE
  --data-plane-user NAME             user and role of the data planes [apisix]                           ROLES_DATA_PLANE_USER
  --data-plane-password-file FILE    its password; none: the user is made without one                    ROLES_DATA_PLANE_PASSWORD_FILE
  --set-passwords                    sets the passwords of users that exist, too (ends their tokens)
  --enable-auth                      turns etcd's authentication on at the end; needs --root-password-file
  --root-password-file FILE          password of the user root: made by --enable-auth if absent, and who
                                     this is done as once authentication is on                           ROLES_ROOT_PASSWORD_FILE
  --help                             this text

How to reach etcd: ETCDCTL_ENDPOINTS, ETCDCTL_CACERT, ETCDCTL_CERT, ETCDCTL_KEY and so on, as for etcdctl (3.4 or later).

Examples:
  roles.sh --controller-password-file controller.txt --data-plane-password-file apisix.txt
  ETCDCTL_ENDPOINTS=https://etcd:2379 ETCDCTL_CACERT=ca.crt roles.sh --prefix /apisix --enable-auth \
      --controller-password-file controller.txt --data-plane-password-file apisix.txt --root-password-file root.txt
  roles.sh --prefix /edge --more-prefixes /apisix --data-plane-user apisix-edge \
      --data-plane-password-file edge.txt --root-password-file root.txt
USAGE
}

say() { printf '%s\n' "$*" >&2; }
refuse() {
    say "error: $*"
    exit 2
}

prefix=${ROLES_PREFIX:-/apisix}
more_prefixes=${ROLES_MORE_PREFIXES:-}
control_prefix=${ROLES_CONTROL_PREFIX:-/gateway-api-etcd}
instance=${ROLES_INSTANCE:-default}
controller_user=${ROLES_CONTROLLER_USER:-gateway-api}
controller_password_file=${ROLES_CONTROLLER_PASSWORD_FILE:-}
data_plane_user=${ROLES_DATA_PLANE_USER:-apisix}
data_plane_password_file=${ROLES_DATA_PLANE_PASSWORD_FILE:-}
root_password_file=${ROLES_ROOT_PASSWORD_FILE:-}
set_passwords='' enable_auth=''

while [[ $# -gt 0 ]]; do
    case $1 in
        --help | -h) usage && exit 0 ;;
        --set-passwords) set_passwords=yes && shift && continue ;;
        --enable-auth) enable_auth=yes && shift && continue ;;
    esac
    [[ $# -ge 2 ]] || refuse "$1 needs a value, or is no flag of this: see --help"
    case $1 in
        --prefix) prefix=$2 ;;
        --more-prefixes) more_prefixes=$2 ;;
        --control-prefix) control_prefix=$2 ;;
        --instance) instance=$2 ;;
        --controller-user) controller_user=$2 ;;
        --controller-password-file) controller_password_file=$2 ;;
        --data-plane-user) data_plane_user=$2 ;;
        --data-plane-password-file) data_plane_password_file=$2 ;;
        --root-password-file) root_password_file=$2 ;;
        *) refuse "$1 is no flag of this: see --help" ;;
    esac
    shift 2
done

IFS=, read -r -a others <<<"$more_prefixes"
for text in "$prefix" "$control_prefix" "${others[@]}"; do
    [[ $text =~ ^(/[A-Za-z0-9_.-]+)+$ ]] || refuse "'$text' is not a prefix such as /apisix"
done
[[ $instance =~ ^[a-z0-9]([a-z0-9-]*[a-z0-9])?$ ]] || refuse "'$instance' is not the name of an instance"
# A data plane reads whatever begins with its prefix.
for one in "$prefix" "${others[@]}"; do
    if [[ $control_prefix == "$one"* || $one == "$control_prefix"* ]]; then
        refuse "of $one and $control_prefix one begins with the other: data planes would read the controller's own keys"
    fi
done
prefixes=("$prefix" "${others[@]}")
for ((i = 0; i < ${#prefixes[@]}; i++)); do
    for ((j = i + 1; j < ${#prefixes[@]}; j++)); do
        if [[ ${prefixes[i]} == "${prefixes[j]}"* || ${prefixes[j]} == "${prefixes[i]}"* ]]; then
            refuse "of ${prefixes[i]} and ${prefixes[j]} one begins with the other: a data plane would read another one's documents"
        fi
    done
done
[[ $controller_user != "$data_plane_user" ]] || refuse "controller and data planes need different users"
for file in "$controller_password_file" "$data_plane_password_file" "$root_password_file"; do
    [[ -z $file || -s $file ]] || refuse "the password file $file is missing or empty"
    # etcdctl takes a password from its standard input up to the first blank, and says nothing about the rest.
    [[ -z $file || $(<"$file") != *[[:space:]]* ]] || refuse "the password in $file has a blank or a line break in it"
done
[[ -z $enable_auth || -n $root_password_file ]] || refuse "--enable-auth needs --root-password-file"
command -v etcdctl >/dev/null || refuse "etcdctl is not installed"

# An etcd that asks for users already is talked to as root; before that, a user would be refused.
if ! asked=$(etcdctl user list 2>&1) && [[ $asked == *"user name is empty"* ]]; then
    [[ -n $root_password_file ]] || refuse "etcd's authentication is on: give --root-password-file, or set ETCDCTL_USER"
    ETCDCTL_USER="root:$(<"$root_password_file")"
    export ETCDCTL_USER
fi
users=$(etcdctl user list)
roles=$(etcdctl role list)

has() { grep -qxF -- "$2" <<<"$1"; }

# Makes user $1, with the password in file $2 if there is one.
user() {
    local name=$1 file=$2
    if ! has "$users" "$name"; then
        if [[ -n $file ]]; then
            etcdctl user add "$name" --interactive=false <"$file"
        else
            etcdctl user add "$name" --no-password
        fi
    elif [[ -n $file && -n $set_passwords ]]; then
        etcdctl user passwd "$name" --interactive=false <"$file"
    fi
}

# Makes role $1 and gives it to the user of that name.
role() {
    has "$roles" "$1" || etcdctl role add "$1"
    [[ " $(etcdctl user get "$1" | sed -n 's/^Roles://p') " == *" $1 "* ]] || etcdctl user grant-role "$1" "$1"
}

# What role $1 may do, a line each: `read`, `write` or `readwrite`, then the range as etcdctl shows it.
rights() {
    etcdctl role get "$1" | awk '
        /^KV Read:/ { kind = "read"; next }
        /^KV Write:/ { kind = "write"; next }
        /^\t/ && kind != "" { sub(/^\t/, ""); may[$0] = may[$0] kind }
        END { for (range in may) print may[range] " " range }'
}

# Whether one of the lines of $1, as `rights` writes them, is of kind $2 (`*`: of any) for the prefix $3.
right() {
    local line
    while IFS= read -r line; do
        # shellcheck disable=SC2053 # the kind may be a pattern
        [[ ${line%% *} != $2 || $line != *" (prefix $3)" ]] || return 0
    done <<<"$1"
    return 1
}

# Gives role $1 exactly the rights that follow, each `KIND PREFIX`, and then takes all others away.
exactly() {
    local role=$1 have wanted line kept
    shift
    have=$(rights "$role")
    for wanted in "$@"; do
        right "$have" "${wanted%% *}" "${wanted#* }" ||
            etcdctl role grant-permission "$role" --prefix=true "${wanted%% *}" "${wanted#* }"
    done
    while IFS= read -r line; do
        kept=''
        for wanted in "$@"; do
            ! right "$line" '*' "${wanted#* }" || kept=yes
        done
        [[ -z $line || -n $kept ]] || revoke "$role" "${line#* }"
    done <<<"$have"
}

# Takes from role $1 the range $2, as etcdctl shows it: a key, `[from, to)`, and a note if that is a prefix.
revoke() {
    if [[ $2 =~ ^\[(.*),\ (.*)\)\ \(prefix\ (.*)\)$ ]]; then
        etcdctl role revoke-permission "$1" --prefix=true "${BASH_REMATCH[3]}"
    elif [[ $2 =~ ^\[(.*),\ \<open\ ended\>$ ]]; then
        etcdctl role revoke-permission "$1" --from-key=true "${BASH_REMATCH[1]}"
    elif [[ $2 =~ ^\[(.*),\ (.*)\)$ ]]; then
        etcdctl role revoke-permission "$1" "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
    else
        etcdctl role revoke-permission "$1" "$2"
    fi
}

# The controller reads each prefix whole: what is not its own it leaves alone, and must see for that (foreign routes on a port,
# the list of plugins). It writes the three directories of its documents, their placeholders, and its instance's own keys; it
# reads other instances' too, to know what is theirs.
user "$controller_user" "$controller_password_file"
role "$controller_user"
controller_rights=("read $control_prefix/" "readwrite $control_prefix/$instance/")
for one in "${prefixes[@]}"; do
    controller_rights+=("read $one/" "readwrite $one/stream_routes/" "readwrite $one/ssls/" "readwrite $one/upstreams/")
done
exactly "$controller_user" "${controller_rights[@]}"

# SUBTLE: without the slash. APISIX asks for everything from the bare prefix on, and etcd refuses a range that is not
# covered whole.
user "$data_plane_user" "$data_plane_password_file"
role "$data_plane_user"
exactly "$data_plane_user" "read $prefix"

if [[ -n $enable_auth ]]; then
    user root "$root_password_file"
    role root
    etcdctl auth enable
fi
say "done: $controller_user writes, $data_plane_user reads $prefix"
