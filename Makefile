# Two commands do everything: `make demo` and `make test`. Both install what is missing first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MUSL := x86_64-unknown-linux-musl
# Linked statically with musl where its target is there, else with glibc.
TARGET := $(shell rustup target list --installed 2>/dev/null | grep -x $(MUSL) || echo x86_64-unknown-linux-gnu)
STATIC := $(if $(findstring gnu,$(TARGET)),-C target-feature=+crt-static,)
BINARY := $(CURDIR)/dist/containerd-shim-gam-v2
ROUNDS ?= 10
FUZZ ?= 20


# The version of cargo-deb that `make deb` installs into .cache where it is missing.
CARGO_DEB := 3.8.0

.PHONY: build pages deb deploy-test fuzz node-install node-remove demo measure fairness test unit e2e e2e-newer e2e-go docker docker-go docker-unpack cri node panels upgrade vm-smoke test-vm install fmt lint clean

build:
	RUSTFLAGS="$(STATIC)" cargo build --locked --release --target $(TARGET) -p gam-manager
	mkdir -p dist
	install -m 755 target/$(TARGET)/release/gam dist/.new
	mv -f dist/.new dist/gam
	ln -f dist/gam dist/containerd-shim-gam-v2
	@ls -l dist

# Completions for bash, zsh and fish, and man pages, of the operator's commands.
pages:
	cargo run --locked -q -p gam-tests --bin pages -- dist

# A package for Debian, dist/gam.deb.
deb: build pages
	[ -x .cache/cargo/bin/cargo-deb ] || cargo install --locked -q --root .cache/cargo cargo-deb@$(CARGO_DEB)
	deploy/deb/fill dist
	PATH="$(CURDIR)/.cache/cargo/bin:$$PATH" cargo deb -q -p gam-manager --no-build --no-strip --target $(TARGET) -o dist/gam.deb
	@ls -l dist/gam.deb

# gam on this node, or in the tree at DESTDIR: see deploy/install.sh. Not `install`, which is what tests need.
node-install: build
	deploy/install.sh install

node-remove:
	deploy/install.sh uninstall

demo: install
	$(MAKE) --no-print-directory build
	cargo build --locked -q -p gam-tests --bins
	GAM_E2E_BINARY=$(BINARY) target/debug/demo

measure: install
	$(MAKE) --no-print-directory build
	cargo build --locked -q -p gam-tests --bins
	GAM_E2E_BINARY=$(BINARY) target/debug/measure $(ROUNDS)

# What a tenant notices of another's 500 creates, and execs, at once.
fairness: install
	$(MAKE) --no-print-directory build
	cargo build --locked -q -p gam-tests --bins
	GAM_E2E_BINARY=$(BINARY) target/debug/fairness

test: install
	$(MAKE) --no-print-directory unit
	$(MAKE) --no-print-directory build
	$(MAKE) --no-print-directory e2e
	$(MAKE) --no-print-directory cri
	$(MAKE) --no-print-directory node
	$(MAKE) --no-print-directory docker
	$(MAKE) --no-print-directory upgrade
	$(MAKE) --no-print-directory deploy-test
	$(MAKE) --no-print-directory vm-smoke

# Everything that needs no containerd but the unit tests' own.
unit:
	cargo test --locked -q --workspace --exclude gam-tests

# The suites on real containerd 1.6 and runc, with gam.
e2e:
	cargo build --locked -q -p gam-tests --bins
	GAM_E2E_BINARY=$(BINARY) tests/suite e2e
	GAM_E2E_BINARY=$(BINARY) tests/suite shim --test-threads 4
	GAM_E2E_BINARY=$(BINARY) tests/suite chaos
	target/debug/leftovers

# The first of them, and pods by CRI, on Debian's newer containerds, unpacked and not installed.
e2e-newer:
	tests/unpack trixie containerd
	tests/unpack sid containerd
	cargo build --locked -q -p gam-tests --bins
	GAM_E2E_CONTAINERD=1.7 GAM_E2E_BINARY=$(BINARY) tests/suite e2e
	GAM_E2E_CONTAINERD=2.1 GAM_E2E_BINARY=$(BINARY) tests/suite e2e
	GAM_E2E_CONTAINERD=1.7 GAM_E2E_BINARY=$(BINARY) tests/suite cri
	GAM_E2E_CONTAINERD=2.1 GAM_E2E_BINARY=$(BINARY) tests/suite cri
	GAM_E2E_TASK_API=3 GAM_E2E_CONTAINERD=2.1 GAM_E2E_BINARY=$(BINARY) tests/suite e2e
	GAM_E2E_TASK_API=3 GAM_E2E_CONTAINERD=2.1 GAM_E2E_BINARY=$(BINARY) tests/suite cri
	target/debug/leftovers

# The same suites with Debian's containerd-shim-runc-v2, which shows that they are right; rows where it is known to fail
# are declared in tests/e2e/main.rs and tests/shim/main.rs, and reported.
e2e-go:
	cargo build --locked -q -p gam-tests --bins
	GAM_E2E_SHIM=go tests/suite e2e
	GAM_E2E_SHIM=go tests/suite shim --test-threads 4

# Debian's newer dockerd and its containerd, unpacked and not installed, with gam as the runtime.
docker: docker-unpack
	cargo build --locked -q -p gam-tests --bins
	GAM_E2E_CONTAINERD=1.7 GAM_E2E_BINARY=$(BINARY) tests/suite docker
	target/debug/leftovers

# The same with dockerd's default runtime.
docker-go: docker-unpack
	cargo build --locked -q -p gam-tests --bins
	GAM_E2E_CONTAINERD=1.7 GAM_E2E_SHIM=go tests/suite docker

# Emulated machines with cgroup v2: a part of tests/e2e with runc and with crun, systemd as process 1, AppArmor, the kernel's
# own facilities. vm-smoke is what of it is short.
vm-smoke:
	$(MAKE) --no-print-directory test-vm STAGES="smoke kernel systemd units apparmor"

test-vm: install
	tests/vm/install
	$(MAKE) --no-print-directory build
	cargo build --locked -q -p gam-tests --bins --test e2e
	GAM_E2E_BINARY=$(BINARY) tests/vm/suite $(STAGES)

# Containers that run throughout upgrades of containerd, 1.6 to 1.7 to 2.1 and a step back, on one state directory.
upgrade:
	tests/unpack trixie containerd
	tests/unpack sid containerd
	cargo build --locked -q -p gam-tests --bins
	GAM_E2E_BINARY=$(BINARY) tests/suite upgrade
	target/debug/leftovers

# Each file of deploy/ as a node would use it.
deploy-test: deb
	tests/unpack trixie containerd
	tests/unpack sid containerd
	cargo build --locked -q -p gam-tests --bins
	GAM_E2E_BINARY=$(BINARY) tests/suite deploy
	target/debug/leftovers

# What gam decodes, with random input: FUZZ seconds for each target.
fuzz:
	tests/fuzz/run $(FUZZ)

docker-unpack:
	tests/unpack trixie containerd docker.io docker-cli tini

# Pods by CRI on containerd 1.6, under every grouping; later ones are also told by runtime_path.
cri:
	cargo build --locked -q -p gam-tests --bins
	GAM_E2E_BINARY=$(BINARY) tests/suite cri

# The metrics of a node with several managers, read by a real Prometheus; the alerts and the dashboard.
node:
	cargo build --locked -q -p gam-tests --bins
	GAM_E2E_BINARY=$(BINARY) tests/suite node
	target/debug/leftovers

# deploy/grafana/panels.svg, from what a Prometheus answers in a run.
panels: install
	$(MAKE) --no-print-directory build
	cargo build --locked -q -p gam-tests --bins
	GAM_E2E_BINARY=$(BINARY) target/debug/panels deploy/grafana/panels.svg

install:
	tests/install

fmt:
	cargo fmt --all

lint:
	cargo fmt --all --check
	cargo fmt --manifest-path tests/fuzz/Cargo.toml --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked -p gam-tests --test docker --test cri --test node --test upgrade --test chaos --test deploy -- -D warnings

clean:
	cargo clean
	rm -rf dist .cache
