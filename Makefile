# The commands of this project. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: help run run-kubernetes test conformance simulate bless bench lint deny

# More arguments for cargo test or cargo bench, such as ARGS="--test golden" or ARGS="-- one_sentence".
ARGS ?=

# Installs what is missing, then tells the command where it is.
with_servers := tools/install.sh test && eval "$$(tools/install.sh paths)" &&

help: ## List the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24

run: ## Show the whole road on this machine: deploy/quickstart into an etcd of its own, followed until Ctrl-C
	@exec deploy/quickstart/run.sh

run-kubernetes: ## The same against a real local kube-apiserver, with a kubeconfig for kubectl
	@$(with_servers) cargo build --quiet --bin apisix-etcd-controller && exec cargo run --quiet --example run-kubernetes

test: ## Install and build what tests need, then run all tests; ARGS="--test golden" runs a part
	@# Frames of the runtime would push the reason out of a report that shows its end alone.
	@export RUST_BACKTRACE=0; $(with_servers) if [[ -n "$(ARGS)" ]]; then cargo test $(ARGS); else cargo test --all-targets && cargo test --doc; fi

conformance: ## Gateway API's own conformance suite on real servers; ARGS=3.19 for one version of APISIX; BLESS=1 writes its lists into docs
	@tools/install.sh conformance && eval "$$(tools/install.sh paths)" && cargo build --quiet --bin apisix-etcd-controller && cargo run --quiet --example run-conformance -- $(ARGS)

simulate: ## Simulate many seeds, optimised: SEEDS=100000 FIRST_SEED=0; or one with its whole history: SEED=17
	@cargo test --release --quiet --test simulation

bless: ## Take what the golden tests give now as what they should give; read the diff
	@tools/install.sh run && BLESS=1 cargo test --test golden && git --no-pager diff --stat -- tests/golden

bench: ## Measure what a user waits for, each beside its floor
	@$(with_servers) cargo bench $(ARGS)

lint: ## Format, clippy, documentation and scripts, with warnings as errors
	@tools/lint.sh

deny: ## Licences, sources, duplicates and advisories of what we depend on
	@tools/deny.sh
