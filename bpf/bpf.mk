# BPF programs: bpf/*.bpf.c -> dist/bpf/*.bpf.o, and the TypeScript that their types become.
CLANG_BPF ?= $(firstword $(wildcard /usr/bin/clang-19) clang)
BPF_OBJECTS := $(patsubst bpf/%.bpf.c,$(DIST)/bpf/%.bpf.o,$(wildcard bpf/*.bpf.c))
# -mcpu=v3: what kernel 6.1 runs, whatever the compiler's default is. No path of the builder's machine gets into the object: its
# hash is what tells the agent that a pinned program is of this build. asm/ headers are in the architecture's own directory.
BPF_CFLAGS := -O2 -g -target bpf -mcpu=v3 -std=gnu11 -Wall -Wextra -Werror -Wno-unused-parameter -ffile-prefix-map=$(CURDIR)=. \
	-idirafter /usr/include/$(ARCH)-linux-gnu
BPF_TYPES := dataplanes/ebpf/bpf-types.gen.ts

# Programs that only tests load; they stay out of dist/.
BPF_TEST_OBJECTS := $(patsubst test/bpf/%.bpf.c,$(BUILD)/bpf/%.bpf.o,$(wildcard test/bpf/*.bpf.c))

bpf: $(BPF_OBJECTS) $(BPF_TEST_OBJECTS) ## The BPF programs

$(DIST)/bpf/%.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h) bpf/bpf.mk
	@echo "  BPF     $@"
	$(Q)mkdir -p $(@D) && $(CLANG_BPF) $(BPF_CFLAGS) -c $< -o $@.tmp && mv -f $@.tmp $@

$(BUILD)/bpf/%.bpf.o: test/bpf/%.bpf.c bpf/bpf.mk
	@echo "  BPF     $@"
	$(Q)mkdir -p $(@D) && $(CLANG_BPF) $(BPF_CFLAGS) -c $< -o $@.tmp && mv -f $@.tmp $@

gen:: $(BPF_OBJECTS) $(NODE) ## Regenerate what is generated and committed
	@echo "  GEN     $(BPF_TYPES)"
	$(Q)$(NODE) scripts/gen-bpf-types.mjs $(BPF_OBJECTS) >$(BPF_TYPES).tmp && mv -f $(BPF_TYPES).tmp $(BPF_TYPES)

gen-check:: $(BPF_OBJECTS) $(NODE) ## Fail if a generated file isn't current
	$(Q)mkdir -p $(BUILD) && $(NODE) scripts/gen-bpf-types.mjs $(BPF_OBJECTS) >$(BUILD)/bpf-types.gen.ts
	$(Q)diff -u $(BPF_TYPES) $(BUILD)/bpf-types.gen.ts || { echo "tortie: $(BPF_TYPES) is not what bpf/ says: run make gen" >&2; exit 1; }
