#!/usr/bin/env bash
# Shows that the simulation bites: for each edit in tests/simulation/edits, the first seed that finds it, as a row of the table
# in docs/simulation.md. `tools/simulation-bites.sh fenced reread` tries these rows only. FIRST_SEED (5000) and SEEDS (2000)
# say where it searches. The last commit is built once, in a worktree of its own below target, with every edit behind a
# switch that the environment variable EDITS turns on; the tree it is called from is not touched.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
first=${FIRST_SEED:-5000} seeds=${SEEDS:-2000}
folder=tests/simulation/edits
# Its own: cargo cannot tell two worktrees in one target folder apart, and the edits must get into nothing else. So the first
# time builds what we depend on, too.
export CARGO_TARGET_DIR=$PWD/target/simulation-bites
tree=$CARGO_TARGET_DIR/tree

say() { printf 'simulation-bites: %s\n' "$*" >&2; }

build() {
    mkdir -p "$CARGO_TARGET_DIR"
    git worktree remove --force "$tree" 2>/dev/null || true
    git worktree add --quiet --force --detach "$tree" HEAD
    trap 'git worktree remove --force "$tree"' EXIT
    for patch in "$folder"/*.patch; do
        git -C "$tree" apply - <"$patch" || { say "$patch does not apply; make it anew"; return 1; }
    done
    say "building, with every edit behind a switch"
    cargo test --quiet --manifest-path "$tree/Cargo.toml" --test simulation --no-run --message-format json |
        sed -n 's/.*"executable":"\([^"]*simulation-[^"]*\)".*/\1/p' | tail -1
}

# One row: tries seeds until one fails.
row() {
    local holds=$1 edits=$2 what=$3 said found where
    said=$(EDITS=$edits FIRST_SEED=$first SEEDS=$seeds FAILURES=1 SEED='' "$simulation" 2>/dev/null </dev/null || true)
    # Threads play side by side, so a later seed may fail before an earlier one does.
    found=$(sed -n 's/^seed \([0-9]*\) failed: \(.*\)/\1 \2/p' <<<"$said" | sort -n | head -1)
    if [[ -n $found ]]; then
        where=${found%% *} said=${found#* }
        [[ ${#said} -le 100 ]] || said="${said:0:100} …"
        # shellcheck disable=SC2016 # the backquotes are Markdown's
        printf '| %s | %s (`%s`) | %s | %s | %s |\n' "$holds" "$what" "$edits" "$where" $((where - first + 1)) "$said"
    elif [[ $said != *"seeds from $first on went well"* ]]; then
        say "$edits: the simulation ended without an outcome"
        return 1
    else
        # shellcheck disable=SC2016
        printf '| %s | %s (`%s`) | none | %s | |\n' "$holds" "$what" "$edits" "$seeds"
    fi
}

simulation=${SIMULATION:-$(build)}
[[ -x $simulation ]] || { say "there is no simulation to run"; exit 1; }
printf '| what must hold | the edit | seed | tried | what it says |\n|---|---|---|---|---|\n'
while IFS='|' read -r holds edits what; do
    [[ $holds = \#* || -z $holds ]] && continue
    edits=${edits// /}
    if [[ $# -gt 0 && " $* " != *" $edits "* ]]; then continue; fi
    row "${holds% }" "$edits" "${what# }"
done <"$folder/rows"
