#!/usr/bin/env bash
# Checks what we depend on against deny.toml. Builds cargo-deny once where it is missing (about two minutes on 2 cores) and
# keeps it where tools/install.sh keeps things. Advisories need their database from github.com: where that cannot be
# reached, they are not checked, and the last line says so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=0.20.2

say() { printf 'deny: %s\n' "$*" >&2; }

if [[ $(cargo-deny --version 2>/dev/null) = "cargo-deny $version" ]]; then
    deny=cargo-deny
else
    folder=$(tools/install.sh cache)/cargo-deny-$version
    deny=$folder/bin/cargo-deny
    if [[ ! -x $deny ]]; then
        say "building cargo-deny $version, once"
        cargo install --quiet --locked --version "$version" --root "$folder" cargo-deny </dev/null
    fi
fi
"$deny" --locked check licenses bans sources

database=https://github.com/RustSec/advisory-db
if GIT_TERMINAL_PROMPT=0 timeout 30 git ls-remote --quiet --exit-code "$database" HEAD >/dev/null 2>&1 </dev/null; then
    "$deny" --locked check advisories
else
    say "NOT CHECKED: advisories and yanked versions, because $database cannot be reached from here"
fi
