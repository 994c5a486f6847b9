#!/usr/bin/env bash
# Shows the whole road on this machine: starts an etcd of its own, runs the controller on the manifests beside this script,
# says what to try, and follows until Ctrl-C or SIGTERM. Then it ends what it started and removes its folder.
# No cluster, no APISIX and no open port beyond 127.0.0.1 is needed.
# shellcheck disable=SC2317 # some functions run from a trap only
set -euo pipefail

# A shell that starts this in the background makes it deaf to Ctrl-C, and only a new program can hear again.
if [[ -z ${QUICKSTART_HEARS:-} ]]; then
    QUICKSTART_HEARS=yes exec env --default-signal=INT,QUIT bash "${BASH_SOURCE[0]}" "$@"
fi
unset QUICKSTART_HEARS

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
manifests=deploy/quickstart
folder='' build='' etcd='' controller=''

say() { printf '%s\n' "$*" >&2; }

# Ends process $1, a child of ours that leads a session of its own, with what it started: asks first, and kills it ten
# seconds later.
end() {
    [[ -n $1 ]] || return 0
    kill -TERM -- "-$1" 2>/dev/null || kill -TERM "$1" 2>/dev/null || return 0
    for _ in {1..100}; do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL -- "-$1" 2>/dev/null || true
}

leave() {
    local status=$?
    trap '' INT TERM HUP
    trap - EXIT
    # The controller first: it would report the loss of its etcd.
    end "$build"
    end "$controller"
    end "$etcd"
    [[ -z $folder ]] || rm -rf "$folder"
    exit "$status"
}
trap leave EXIT
trap 'say ""; say "ending"; exit 0' INT TERM HUP

# A port on 127.0.0.1 where nobody answers. Somebody may take it before we do: what starts on it is tried again.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

build_controller() {
    say "building the controller (the first time takes some minutes)"
    setsid cargo build --bin apisix-etcd-controller --message-format=json-render-diagnostics </dev/null >"$folder/built.json" 2>"$folder/build.log" &
    build=$!
    while kill -0 "$build" 2>/dev/null; do
        [[ ! -t 2 ]] || printf '\r\033[K  %s crates compiled, %s s' "$(grep -c Compiling "$folder/build.log" || true)" "$SECONDS" >&2
        sleep 0.2
    done
    [[ ! -t 2 ]] || printf '\r\033[K' >&2
    if ! wait "$build"; then
        build=''
        cat "$folder/build.log" >&2
        say "cargo build failed; its own words stand above"
        exit 1
    fi
    build=''
    # Wherever the target folder is, cargo says it.
    binary=$(sed -n 's/.*"executable":"\([^"]*\/apisix-etcd-controller\)".*/\1/p' "$folder/built.json" | tail -n 1)
}

# Starts etcd on ports of its own and sets $endpoint. In a session of its own, so that Ctrl-C reaches this script alone.
start_etcd() {
    local peer flags=()
    if "$APISIX_TEST_ETCD" --help 2>&1 | grep -q -e --unsafe-no-fsync; then
        flags=(--unsafe-no-fsync)
    fi
    for _ in {1..5}; do
        endpoint=http://127.0.0.1:$(free_port) peer=http://127.0.0.1:$(free_port)
        setsid "$APISIX_TEST_ETCD" --name quickstart --data-dir "$folder/etcd" \
            --listen-client-urls "$endpoint" --advertise-client-urls "$endpoint" \
            --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "quickstart=$peer" \
            "${flags[@]}" </dev/null >"$folder/etcd.log" 2>&1 &
        etcd=$!
        while kill -0 "$etcd" 2>/dev/null; do
            if etcdctl --endpoints "$endpoint" --command-timeout 1s get ready >/dev/null 2>&1; then
                say "etcd answers on $endpoint"
                return 0
            fi
            sleep 0.1
        done
        etcd=''
        rm -rf "$folder/etcd"
    done
    tail -n 20 "$folder/etcd.log" >&2
    say "etcd did not start; the end of its log stands above"
    exit 1
}

# Empty if there is none, or etcd cannot say.
first_key() { etcdctl --endpoints "$endpoint" get --prefix --keys-only --limit 1 "$1" 2>/dev/null | sed -n 1p || true; }

# Until both documents are in etcd and there was time to read them; half a minute at most, or the controller's end.
await_documents() {
    for _ in {1..150}; do
        kill -0 "$controller" 2>/dev/null || return 0
        pool=$(first_key /apisix/upstreams/gateway-api.)
        if [[ -n $pool && -n $(first_key /apisix/stream_routes/gateway-api.) ]]; then
            sleep 1
            return 0
        fi
        sleep 0.2
    done
}

what_to_try() {
    local etcdctl="etcdctl --endpoints=$endpoint"
    cat <<TEXT

The controller follows $manifests/ and etcd. In another terminal, in this folder, try:

  # see what APISIX would read
  $etcdctl get --prefix /apisix/

  # an endpoint goes: only the upstream is written
  sed -i '/192.0.2.12/,\$ s/ready: true/ready: false/' $manifests/service.yaml

  # a weight changes: with weight 0 nothing is left to send connections to, and they are refused
  sed -i 's/weight: 1/weight: 0/' $manifests/route.yaml

  # somebody edits a document behind the controller's back: it heals
  $etcdctl put $pool '{"nodes":{"203.0.113.1:1":1}}'
  $etcdctl get --print-value-only $pool

  # somebody deletes it: it comes back
  $etcdctl del $pool

  # the route goes, and its documents with it
  rm $manifests/route.yaml

  # all as it was
  git checkout $manifests

Ctrl-C ends the controller and this etcd, and removes their folder.

TEXT
}

tools/install.sh run
eval "$(tools/install.sh paths)"
# The controller takes every flag from the environment too; here it is to have those below alone.
unset "${!APISIX_ETCD_CONTROLLER_@}"
folder=$(mktemp -d "${TMPDIR:-/tmp}/apisix-etcd-controller-run.XXXXXX")
build_controller
start_etcd
setsid "$binary" run --manifests "$manifests" --etcd-endpoints "$endpoint" \
    --admin-address "127.0.0.1:$(free_port)" --log-format text </dev/null &
controller=$!
pool=''
await_documents
if [[ -n $pool ]]; then
    what_to_try
elif kill -0 "$controller" 2>/dev/null; then
    say "no documents in etcd after half a minute; the controller's own words stand above"
fi
status=0
wait "$controller" || status=$?
controller=''
say "the controller ended with status $status"
exit "$status"
