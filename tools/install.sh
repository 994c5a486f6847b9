#!/usr/bin/env bash
# Makes what this project's commands need and the machine lacks. Safe to run again: what is there is left alone.
#
#   tools/install.sh [run]         protoc (to build) and etcd with etcdctl (to run): Debian's packages
#   tools/install.sh test          also etcd 3.6, kube-apiserver and kubectl, built once from their Go modules, and the CRDs of
#                                  Gateway API
#   tools/install.sh conformance   also Gateway API's conformance suite, built once from tools/conformance
#   tools/install.sh paths         installs nothing; prints where they are, as lines for a shell: eval "$(tools/install.sh paths)"
#   tools/install.sh cache         installs nothing; prints the folder where built things are kept
#
# Taken before building, in this order: APISIX_TEST_ETCD, APISIX_TEST_ETCD36, APISIX_TEST_KUBE_APISERVER, APISIX_TEST_KUBECTL,
# APISIX_TEST_CRDS, APISIX_TEST_CONFORMANCE; the folder KUBEBUILDER_ASSETS; PATH. Built things are kept outside the checkout,
# under APISIX_ETCD_CONTROLLER_CACHE, else XDG_CACHE_HOME or ~/.cache; their names carry a hash of what they are built from, so
# a new version is built anew. Progress goes to stderr. Exit status: 0 all there, 1 something is missing (and it says what to
# do), 2 wrong arguments.
set -euo pipefail

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(dirname "$tools")
cache=${APISIX_ETCD_CONTROLLER_CACHE:-${XDG_CACHE_HOME:-${HOME:-$checkout}/.cache}/apisix-etcd-controller}
case $cache in /*) ;; *) cache=$PWD/$cache ;; esac

say() { printf 'install: %s\n' "$*" >&2; }
fail() {
    say "$@"
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# The version behind the first "v" or "Version:" of `$1 --version`, as major * 1000 + minor; 0 when it does not say.
version_of() {
    local line
    line=$("$1" --version 2>/dev/null | head -n 1) || true
    if [[ $line =~ ([0-9]+)\.([0-9]+)\. ]]; then
        echo $((BASH_REMATCH[1] * 1000 + BASH_REMATCH[2]))
    else
        echo 0
    fi
}

# $1 as found in KUBEBUILDER_ASSETS or on PATH, if it is at least version $2; else nothing, and status 1.
found() {
    local candidate
    for candidate in "${KUBEBUILDER_ASSETS:+$KUBEBUILDER_ASSETS/$1}" "$(command -v "$1" || true)"; do
        if [[ -n $candidate && -x $candidate && $(version_of "$candidate") -ge $2 ]]; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    return 1
}

# The name that module folder $1 has in the cache: whatever it is made from, and the machine, are part of it.
cached() {
    local files=() sources=()
    mapfile -t sources < <(find "$tools/$1" -name '*.go' | LC_ALL=C sort)
    files=("$tools/$1/go.mod" "$tools/$1/go.sum" "${sources[@]}")
    printf '%s/%s-%s\n' "$cache" "$1" "$({ uname -sm && cat "${files[@]}"; } | sha256sum | cut -c 1-16)"
}

# Where each thing is: what the environment says, else what is found, else where it is built. The last may not exist yet.
path_of() {
    case $1 in
    etcd) printf '%s\n' "${APISIX_TEST_ETCD:-$(command -v etcd || true)}" ;;
    etcd36) printf '%s\n' "${APISIX_TEST_ETCD36:-$(found etcd 3006 || cached etcd)}" ;;
    # Before 1.31 it cannot serve what the CRDs of Gateway API 1.6 ask for.
    kube-apiserver) printf '%s\n' "${APISIX_TEST_KUBE_APISERVER:-$(found kube-apiserver 1031 || cached kube-apiserver)}" ;;
    # Any version applies manifests and shows objects; it does not say its own with --version.
    kubectl) printf '%s\n' "${APISIX_TEST_KUBECTL:-$(found kubectl 0 || cached kubectl)}" ;;
    crds) printf '%s\n' "${APISIX_TEST_CRDS:-$(cached gateway-api)}" ;;
    conformance) printf '%s\n' "${APISIX_TEST_CONFORMANCE:-$(cached conformance)}" ;;
    esac
}

print_paths() {
    local path
    for name in ETCD ETCD36 KUBE_APISERVER KUBECTL CRDS CONFORMANCE; do
        path=$(path_of "$(tr '[:upper:]_' '[:lower:]-' <<<"$name")")
        [[ -n $path && -e $path ]] && printf 'export APISIX_TEST_%s=%q\n' "$name" "$path"
    done
    return 0
}

# --- Debian packages ---------------------------------------------------------------------------------------------------

# Runs a command with the right to install, or says (status 1) that there is none.
with_rights() {
    if [[ $(id -u) -eq 0 ]]; then
        "$@"
    elif have sudo && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

apt_install() {
    with_rights env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$@" >&2 </dev/null
}

# Whether protoc is there with the types that come with it, which Debian packs apart and only recommends.
have_protoc() {
    local folder proto status=0
    have "${PROTOC:-protoc}" || return 1
    folder=$(mktemp -d) && proto=$folder/probe.proto
    printf 'syntax = "proto3";\nimport "google/protobuf/descriptor.proto";\n' >"$proto"
    "${PROTOC:-protoc}" --proto_path="$folder" ${PROTOC_INCLUDE:+--proto_path="$PROTOC_INCLUDE"} \
        --descriptor_set_out=/dev/null "$proto" >/dev/null 2>&1 || status=1
    rm -rf "$folder"
    return "$status"
}

install_packages() {
    local missing=() policy=/usr/sbin/policy-rc.d guarded=no
    have_protoc || missing+=(protobuf-compiler libprotobuf-dev)
    [[ -n $(path_of etcd) ]] || missing+=(etcd-server)
    have etcdctl || missing+=(etcd-client)
    [[ ${#missing[@]} -gt 0 ]] || return 0

    if ! have apt-get || ! with_rights true; then
        say "missing: ${missing[*]} (Debian's names), and there is no right to install them here"
        say "as root, run: apt-get install --no-install-recommends ${missing[*]}"
        fail "or put protoc, etcd and etcdctl on PATH by other means; then run this again"
    fi
    say "installing ${missing[*]}"
    # Debian starts a packaged server as it is installed; ours are started by the commands that need them.
    if [[ ! -e $policy ]]; then
        with_rights install -m 755 /dev/stdin "$policy" <<<$'#!/bin/sh\nexit 101'
        guarded=yes
    fi
    apt_install "${missing[@]}" || {
        say "asking for newer package lists"
        with_rights apt-get -qq update >&2 </dev/null && apt_install "${missing[@]}"
    } || missing+=(failed)
    [[ $guarded = no ]] || with_rights rm -f "$policy"
    have_protoc && [[ -n $(path_of etcd) ]] && have etcdctl || missing+=(failed)
    [[ ${missing[-1]} != failed ]] || fail "apt-get could not install them; its own words stand above"
    if [[ -d /run/systemd/system && " ${missing[*]} " == *" etcd-server "* ]]; then
        with_rights systemctl --quiet disable etcd.service >&2 || true
    fi
}

# --- Go modules ----------------------------------------------------------------------------------------------------------

# Stops, with what to do, when $1 cannot be made because Go is missing or too old to fetch a newer one by itself.
require_go() {
    local wanted line
    wanted=$(sed -n 's/^go //p' "$tools/etcd/go.mod")
    line=$(go version 2>/dev/null) || line=
    if [[ ! $line =~ go([0-9]+)\.([0-9]+) ]] || ((BASH_REMATCH[1] * 1000 + BASH_REMATCH[2] < 1021)); then
        [[ -n $line ]] && line="too old ($line)"
        say "$1 must be made, and Go is ${line:-not on PATH}"
        say "unpack Go $wanted or later from https://go.dev/dl/ and put its bin folder on PATH, then run this again"
        say "or name what you have: APISIX_TEST_ETCD36, APISIX_TEST_KUBE_APISERVER and APISIX_TEST_KUBECTL (or"
        fail "KUBEBUILDER_ASSETS for these two), APISIX_TEST_CRDS, APISIX_TEST_CONFORMANCE"
    fi
    # From 1.21 on Go fetches the version that a go.mod asks for, unless the environment forbids it.
    export GOTOOLCHAIN=${GOTOOLCHAIN:-auto}
    # Without HOME, Go does not know where to keep things.
    if [[ -z ${HOME:-} ]]; then
        export GOPATH=${GOPATH:-$cache/go} GOCACHE=${GOCACHE:-$cache/go-build} GOFLAGS=-modcacherw
    fi
}

# Builds module folder $1 into file $2 with Go's command $3 (words), with linker flags $4. Atomic: the file is whole or not
# there.
build() {
    local started=$SECONDS partial=$2.$$ command
    read -ra command <<<"$3"
    say "building $1 from its Go modules, once (on 2 cores etcd, kubectl and conformance take 1 to 2 minutes, kube-apiserver 4 to 6)"
    if ! (cd "$tools/$1" && CGO_ENABLED=0 "${command[@]}" -mod=readonly -buildvcs=false -trimpath -ldflags "-s -w $4" -o "$partial" . </dev/null >&2); then
        rm -f "$partial"
        fail "$1 could not be built; Go's own words stand above"
    fi
    mv -f "$partial" "$2"
    say "built $1 in $((SECONDS - started)) s: $2"
}

# The conformance suite as a test binary, once the tests of what judges it pass.
build_conformance() {
    (cd "$tools/conformance" && CGO_ENABLED=0 go test -mod=readonly -buildvcs=false ./lists </dev/null >&2) ||
        fail "the tests of tools/conformance fail; Go's own words stand above"
    build conformance "$1" "go test -c" ""
}

# Builds module folder $1, which is of Kubernetes, into file $2. Its libraries are v0.35.1 where Kubernetes is v1.35.1.
build_kubernetes() {
    local version minor v=k8s.io/component-base/version
    version=$(sed -n 's/^[[:space:]]*k8s\.io\/component-base v0\.//p' "$tools/$1/go.mod" | head -n 1)
    minor=${version%%.*}
    build "$1" "$2" "go build" "-X $v.gitVersion=v1.$version -X $v.gitMajor=1 -X $v.gitMinor=$minor"
}

# The CRDs of every Gateway API release in go.sum, as $1/VERSION/{standard,experimental}/*.yaml. Go checks what it downloads
# against go.sum.
fetch_crds() {
    local version folder channel partial=$1.$$
    while read -r version; do
        say "fetching the CRDs of Gateway API $version"
        folder=$(cd "$tools/gateway-api" && go mod download -json "sigs.k8s.io/gateway-api@$version" </dev/null | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p') ||
            fail "Gateway API $version could not be fetched; Go's own words stand above"
        for channel in standard experimental; do
            mkdir -p "$partial/$version/$channel"
            # Named one by one, so that a kustomization.yaml stays behind.
            cp "$folder/config/crd/$channel"/gateway.networking.* "$partial/$version/$channel/"
        done
    done < <(sed -n 's/^sigs\.k8s\.io\/gateway-api \(v[0-9.]*\) h1:.*/\1/p' "$tools/gateway-api/go.sum")
    chmod -R u+w "$partial"
    mv -T "$partial" "$1" 2>/dev/null || { [[ -d $1 ]] && rm -rf "$partial"; } || fail "cannot keep $1"
}

# Makes the cache. Only one run of this script at a time goes on from here, so that two do not build the same thing.
open_cache() {
    mkdir -p "$cache" || fail "cannot make the folder $cache; set APISIX_ETCD_CONTROLLER_CACHE to one that can be made"
    # Inside the checkout (no HOME), git need not see it.
    [[ $cache != "$checkout"/* ]] || printf '*\n' >"$cache/.gitignore"
    if have flock; then
        exec 9>"$cache/lock"
        flock -n 9 || { say "waiting for another run of this script" && flock 9; }
    fi
}

install_for_tests() {
    local name etcd36 kube_apiserver kubectl crds
    for name in APISIX_TEST_ETCD APISIX_TEST_ETCD36 APISIX_TEST_KUBE_APISERVER APISIX_TEST_KUBECTL APISIX_TEST_CRDS; do
        [[ -z ${!name:-} || -e ${!name} ]] || fail "$name is set to ${!name}, and there is no such thing"
    done
    etcd36=$(path_of etcd36) kube_apiserver=$(path_of kube-apiserver) kubectl=$(path_of kubectl) crds=$(path_of crds)
    [[ -x $etcd36 && -x $kube_apiserver && -x $kubectl && -d $crds ]] && return 0

    open_cache
    if [[ ! -x $etcd36 ]]; then
        require_go etcd
        build etcd "$etcd36" "go build" ""
    fi
    if [[ ! -x $kube_apiserver ]]; then
        require_go kube-apiserver
        build_kubernetes kube-apiserver "$kube_apiserver"
    fi
    # After kube-apiserver, with which it shares most of its code.
    if [[ ! -x $kubectl ]]; then
        require_go kubectl
        build_kubernetes kubectl "$kubectl"
    fi
    if [[ ! -d $crds ]]; then
        require_go "a folder with the Gateway API CRDs"
        fetch_crds "$crds"
    fi
}

install_conformance() {
    local suite
    [[ -z ${APISIX_TEST_CONFORMANCE:-} || -e $APISIX_TEST_CONFORMANCE ]] ||
        fail "APISIX_TEST_CONFORMANCE is set to $APISIX_TEST_CONFORMANCE, and there is no such thing"
    suite=$(path_of conformance)
    [[ -x $suite ]] && return 0
    open_cache
    require_go conformance
    # Another run may have made it meanwhile.
    [[ -x $suite ]] || build_conformance "$suite"
}

case ${1:-run} in
run) install_packages ;;
test)
    install_packages
    install_for_tests
    ;;
conformance)
    install_packages
    install_for_tests
    install_conformance
    ;;
paths) print_paths ;;
cache) printf '%s\n' "$cache" ;;
*)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
