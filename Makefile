# Everything that builds, checks and runs Tortie. `make help` lists the targets; V=1 shows the commands.
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules
Q := $(if $(V),,@)

ARCH := $(shell uname -m)
NODE_PACKAGE := node_modules/node-linux-$(if $(filter aarch64,$(ARCH)),arm64,x64)
# The pinned runtime: used for building and testing too, whatever `node` is on PATH.
NODE := $(NODE_PACKAGE)/bin/node
DIST := dist
BUILD := build

# In a clone of another user, what root builds belongs to that user too, who may then build without root.
GIVE_TO_OWNER = [ "$$(stat -c %u .)" = "$$(id -u)" ] || chown -R --reference=. $(wildcard $(DIST) $(BUILD))

.PHONY: help build kubernetes lint fmt fmt-check types knip check test test-unit test-kernel test-cluster test-kernels soak bench bench-cni bench-calc bench-policy bench-policy-docs bench-classify bench-packets bench-kubernetes bpf bpf-instructions native \
	launcher gen gen-check image cluster-up cluster-down fresh playground clean

help: ## This list
	$(Q)awk -F '::?[^#]*## ' '/^[a-z][a-z-]*::?[^#]*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST) | sort -u

$(NODE):
	@echo "tortie: $(NODE) is missing: this machine was never set up. Run: npm run setup" >&2; exit 1

include native/native.mk
include bpf/bpf.mk
include cni-plugin/launcher/launcher.mk

TS_SOURCES := $(shell find api native datastore ipam cni-plugin dataplanes felix-agent -name '*.ts' ! -name '*.test.ts')

BUNDLES := $(addprefix $(DIST)/,lib/start.cjs lib/tortie.js lib/tortie.cache cni/tortie.mjs)

build: $(DIST)/bin/node $(DIST)/bin/tortie $(BUNDLES) native bpf launcher ## All that is installed on a node, under dist/
	$(Q)$(GIVE_TO_OWNER)

$(DIST)/bin/node: $(NODE)
	$(Q)mkdir -p $(@D) && cp -f $< $@.tmp && mv -f $@.tmp $@

$(DIST)/bin/tortie: felix-agent/tortie.sh
	$(Q)mkdir -p $(@D) && install -m 0755 $< $@

$(BUNDLES) &: $(TS_SOURCES) scripts/bundle.mjs package-lock.json $(NODE)
	@echo "  BUNDLE  $(BUNDLES)"
	$(Q)$(NODE) scripts/bundle.mjs

types: $(NODE) ## Type check
	$(Q)$(NODE) node_modules/typescript/bin/tsc -p .

lint: $(NODE) ## oxlint with type-aware rules and the layer rule
	$(Q)PATH=$(CURDIR)/$(NODE_PACKAGE)/bin:$$PATH $(NODE) node_modules/oxlint/bin/oxlint --type-aware --deny-warnings

C_SOURCES := $(shell find native bpf cni-plugin/launcher \( -name '*.c' -o -name '*.cc' -o -name '*.h' \) ! -name '*.gen.h' ! -name 'vmlinux.h')
CLANG_FORMAT := $(firstword $(wildcard /usr/bin/clang-format-19) clang-format)

fmt: $(NODE) ## Format TypeScript, JSON and C/C++
	$(Q)$(NODE) node_modules/oxfmt/bin/oxfmt .
	$(Q)$(if $(C_SOURCES),$(CLANG_FORMAT) -i $(C_SOURCES))

fmt-check: $(NODE)
	$(Q)$(NODE) node_modules/oxfmt/bin/oxfmt --check .
	$(Q)$(if $(C_SOURCES),$(CLANG_FORMAT) --dry-run --Werror $(C_SOURCES))

knip: $(NODE)
	$(Q)$(NODE) node_modules/knip/bin/knip.js

gen:: ## Regenerate what is generated and committed
	$(Q)$(NODE) scripts/complete-lock.mjs
	$(Q)$(NODE) scripts/gen-dependencies.mjs
	$(Q)$(NODE) scripts/gen-crds.mjs
	$(Q)$(NODE) scripts/gen-compatibility.mjs
	$(Q)$(NODE) scripts/gen-metrics.mjs
	$(Q)$(NODE) scripts/gen-checks.mjs
	$(Q)$(NODE) scripts/gen-manifests.mjs

gen-check:: ## Fail if a generated file isn't current
	$(Q)$(NODE) scripts/complete-lock.mjs --check
	$(Q)$(NODE) scripts/gen-dependencies.mjs --check
	$(Q)$(NODE) scripts/gen-crds.mjs --check
	$(Q)$(NODE) scripts/gen-compatibility.mjs --check
	$(Q)$(NODE) scripts/gen-metrics.mjs --check
	$(Q)$(NODE) scripts/gen-checks.mjs --check
	$(Q)$(NODE) scripts/gen-manifests.mjs --check

check: types lint fmt-check knip gen-check ## Types, lint, format, dead code, generated files current

JEST := $(NODE) --experimental-vm-modules --disable-warning=ExperimentalWarning node_modules/jest/bin/jest.js
T ?=

# A real Kubernetes, for tests: some minutes, once.
kubernetes: $(NODE)
	$(Q)$(NODE) test/cluster/build.ts

test: build image kubernetes ## Every test; T='-t name path' narrows it
	$(Q)$(NODE) scripts/jest/run-stages.mjs $(T)

test-unit: native ## Only the tests that need no root
	$(Q)$(JEST) $(T) --selectProjects unit

test-kernel: build kubernetes ## Only the tests on the real kernel
	$(Q)$(JEST) $(T) --selectProjects kernel

test-cluster: build image kubernetes ## Only the tests on a real Kubernetes on this machine
	$(Q)$(JEST) $(T) --selectProjects cluster --runInBand

KERNEL ?=

test-kernels: build ## The BPF programs on the kernels of Debian 12 and 13, in QEMU (KERNEL=6.1: one of them)
	$(Q)for program in qemu-system-x86_64 busybox; do command -v $$program >/dev/null || \
		{ echo "tortie: $$program is missing. Run: npm run setup -- --for-kernels" >&2; exit 1; }; done
	$(Q)KERNEL=$(KERNEL) exec $(NODE) test/kernels/main.ts $(T)

SOAK_SECONDS ?= 600
FUZZ_COUNT ?= 10000

soak: build ## The randomised tests for a long time: SOAK_SECONDS each, FUZZ_COUNT inputs
	$(Q)SOAK_SECONDS=$(SOAK_SECONDS) FUZZ_COUNT=$(FUZZ_COUNT) $(JEST) \
		$$(grep -rlE 'SOAK_SECONDS|FUZZ_COUNT|soakMs' --include='*.test.ts' --exclude-dir=node_modules .)

bench: bench-cni bench-calc bench-policy bench-classify bench-packets bench-kubernetes ## Every benchmark

bench-cni: build ## ADD and DEL beside ptp + host-local
	$(Q)$(NODE) bench/cni.ts

bench-policy: build bpf ## What policy costs in both dataplanes, beside ptp, and the targets (ROUNDS=5, ONLY=connect,label,tcp,add,start,sweep, MINUTES=10)
	$(Q)$(NODE) bench/policy.ts

bench-policy-docs: $(NODE) ## The last bench-policy's tables and plots into docs/performance.md (PRINT=yes: only shown)
	$(Q)$(NODE) bench/policy-docs.ts $(if $(PRINT),--print)

bench-classify: bpf native $(NODE) ## What a verdict costs in the kernel, with up to 10,000 rules
	$(Q)$(NODE) bench/classify.ts

bench-packets: bpf native $(NODE) ## What the programs spend on a packet of a flow that is known
	$(Q)$(NODE) bench/packets.ts

bench-kubernetes: build ## Start, events and load on a real API server with up to 10,000 pods
	$(Q)$(NODE) bench/kubernetes.ts

bench-calc: $(NODE) ## The calculation with 10,000 endpoints and 1,000 policies
	$(Q)$(NODE) bench/calc.ts

IMAGE := $(DIST)/image/node.tar
BASE ?=

image: $(IMAGE) ## A container image, dist/image/node.tar (BASE=... takes a base from a registry)

# What the image holds of dist/; the rest of dist/ (stand-alone plugin, this image) doesn't make it stale.
$(IMAGE): $(DIST)/bin/node $(DIST)/bin/tortie $(filter $(DIST)/lib/%,$(BUNDLES)) $(DIST)/lib/tortie_native.node $(DIST)/cni/tortie \
		$(BPF_OBJECTS) Containerfile scripts/image.sh scripts/manifests/names.ts | build
	$(Q)BASE='$(BASE)' scripts/image.sh $@ $$($(NODE) -p 'require("./scripts/manifests/names.ts").image')

cluster-up: $(if $(filter no,$(TORTIE)),$(NODE),image) ## A small real Kubernetes on this machine, with Tortie (TORTIE=no: without; NODES=2)
	$(Q)$(NODE) test/cluster/up.ts

cluster-down: $(NODE) ## Takes it away again
	$(Q)$(NODE) test/cluster/down.ts

playground: build ## Two nodes, six pods, both dataplanes: what `npm start` shows
	$(Q)$(DIST)/bin/node playground/main.ts

fresh: ## Prove npm start and npm test in fresh Debian 12 and 13 (slow; needs debootstrap)
	$(Q)scripts/fresh.sh

clean: ## Remove all that was built
	$(Q)rm -rf $(DIST) $(BUILD)
