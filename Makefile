# Two commands do everything: `make demo` and `make test`. Both install what is missing first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MUSL := x86_64-unknown-linux-musl
# Linked statically with musl where its target is there, else with glibc.
TARGET := $(shell rustup target list --installed 2>/dev/null | grep -x $(MUSL) || echo x86_64-unknown-linux-gnu)
STATIC := $(if $(findstring gnu,$(TARGET)),-C target-feature=+crt-static,)
BINARY := $(CURDIR)/dist/containerd-shim-gam-v2
ROUNDS ?= 30

.PHONY: build demo measure test unit e2e e2e-go cri install fmt lint clean

build:
	RUSTFLAGS="$(STATIC)" cargo build --locked --release --target $(TARGET) -p gam-manager
	mkdir -p dist
	install -m 755 target/$(TARGET)/release/gam dist/.new
	mv -f dist/.new dist/gam
	ln -f dist/gam dist/containerd-shim-gam-v2
	@ls -l dist

demo: install
	$(MAKE) --no-print-directory build
	GAM_E2E_BINARY=$(BINARY) cargo run --locked -q -p gam-tests --bin demo

measure: install
	$(MAKE) --no-print-directory build
	cargo build --locked --release -q -p gam-tests --bin measure
	GAM_E2E_BINARY=$(BINARY) target/release/measure $(ROUNDS)

test: install
	$(MAKE) --no-print-directory unit
	$(MAKE) --no-print-directory build
	$(MAKE) --no-print-directory e2e
	$(MAKE) --no-print-directory e2e-go

# Everything that needs no containerd but the unit tests' own.
unit:
	cargo test --locked --workspace --exclude gam-tests

# The suites on real containerd and runc, with gam.
e2e:
	GAM_E2E_BINARY=$(BINARY) cargo test --locked -p gam-tests

# The same with Debian's containerd-shim-runc-v2, which shows that the suites are right.
e2e-go:
	GAM_E2E_SHIM=go cargo test --locked -p gam-tests

# Pods by CRI, under every grouping and in both ways of naming the runtime.
cri:
	GAM_E2E_BINARY=$(BINARY) cargo test --locked -p gam-tests --test cri

install:
	tests/install

fmt:
	cargo fmt --all

lint:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

clean:
	cargo clean
	rm -rf dist .cache
