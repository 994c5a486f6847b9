#!/usr/bin/env bash
# Everything that is checked without running the program. Changes nothing. The first complaint ends it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'lint: %s\n' "$*" >&2; }

tools/install.sh run
scripts=(.ci/run tools/*.sh deploy/quickstart/run.sh)
if command -v shellcheck >/dev/null 2>&1; then
    say "shellcheck"
    shellcheck "${scripts[@]}"
else
    say "bash -n (shellcheck is not installed)"
    for script in "${scripts[@]}"; do bash -n "$script"; done
fi
say "cargo fmt"
cargo fmt --check
say "cargo clippy"
cargo clippy --quiet --locked --all-targets -- -D warnings
say "cargo doc"
RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --no-deps
