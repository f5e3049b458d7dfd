# BPF programs: bpf/*.bpf.c -> dist/bpf/*.bpf.o, and the TypeScript that their types become.
CLANG_BPF ?= $(firstword $(wildcard /usr/bin/clang-19) clang)
BPF_OBJECTS := $(patsubst bpf/%.bpf.c,$(DIST)/bpf/%.bpf.o,$(wildcard bpf/*.bpf.c))
# -mcpu=v3: what kernel 6.1 runs, whatever the compiler's default is. No path of the builder's machine gets into the object: its
# hash is what tells the agent that a pinned program is of this build. Keys and headers are written by fields and read by words, so
# no strict aliasing: clang would (and did) read before it writes. asm/ headers are in the architecture's own directory.
BPF_CFLAGS := -O2 -g -target bpf -mcpu=v3 -std=gnu11 -Wall -Wextra -Werror -Wno-unused-parameter -fno-strict-aliasing -ffile-prefix-map=$(CURDIR)=. \
	-idirafter /usr/include/$(ARCH)-linux-gnu
BPF_TYPES := dataplanes/ebpf/bpf-types.gen.ts

# Compiled once for each address family, which they are told by -DFAMILY.
BPF_OF_FAMILY := test/bpf/classify.bpf.c
BPF_CLASSIFIER := $(foreach family,4 6,$(BUILD)/bpf/classify$(family).bpf.o)
# Programs that only tests load; they stay out of dist/.
BPF_TEST_OBJECTS := $(patsubst test/bpf/%.bpf.c,$(BUILD)/bpf/%.bpf.o,$(filter-out $(BPF_OF_FAMILY),$(wildcard test/bpf/*.bpf.c))) \
	$(BPF_CLASSIFIER)
# The numbers in the header are TypeScript's, too.
BPF_TYPES_OF := $(BPF_OBJECTS) -- classifier bpf/classifier.h $(BPF_CLASSIFIER) -- flow bpf/flow-maps.h bpf/endpoint-maps.h bpf/host-maps.h bpf/service-maps.h $(BUILD)/bpf/flow.bpf.o

bpf: $(BPF_OBJECTS) $(BPF_TEST_OBJECTS) ## The BPF programs

$(DIST)/bpf/%.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h) bpf/bpf.mk
	@echo "  BPF     $@"
	$(Q)mkdir -p $(@D) && $(CLANG_BPF) $(BPF_CFLAGS) -c $< -o $@.tmp && mv -f $@.tmp $@

$(BUILD)/bpf/%.bpf.o: test/bpf/%.bpf.c $(wildcard bpf/*.h test/bpf/*.h) bpf/bpf.mk
	@echo "  BPF     $@"
	$(Q)mkdir -p $(@D) && $(CLANG_BPF) $(BPF_CFLAGS) -c $< -o $@.tmp && mv -f $@.tmp $@

$(BUILD)/bpf/%4.bpf.o: test/bpf/%.bpf.c $(wildcard bpf/*.h) bpf/bpf.mk
	@echo "  BPF     $@"
	$(Q)mkdir -p $(@D) && $(CLANG_BPF) $(BPF_CFLAGS) -DFAMILY=4 -c $< -o $@.tmp && mv -f $@.tmp $@

$(BUILD)/bpf/%6.bpf.o: test/bpf/%.bpf.c $(wildcard bpf/*.h) bpf/bpf.mk
	@echo "  BPF     $@"
	$(Q)mkdir -p $(@D) && $(CLANG_BPF) $(BPF_CFLAGS) -DFAMILY=6 -c $< -o $@.tmp && mv -f $@.tmp $@

gen:: $(BPF_OBJECTS) $(BPF_TEST_OBJECTS) $(NODE) ## Regenerate what is generated and committed
	@echo "  GEN     $(BPF_TYPES)"
	$(Q)$(NODE) scripts/gen-bpf-types.mjs $(BPF_TYPES_OF) >$(BPF_TYPES).tmp && mv -f $(BPF_TYPES).tmp $(BPF_TYPES)

gen-check:: $(BPF_OBJECTS) $(BPF_TEST_OBJECTS) $(NODE) ## Fail if a generated file isn't current
	$(Q)mkdir -p $(BUILD) && $(NODE) scripts/gen-bpf-types.mjs $(BPF_TYPES_OF) >$(BUILD)/bpf-types.gen.ts
	$(Q)diff -u $(BPF_TYPES) $(BUILD)/bpf-types.gen.ts || { echo "tortie: $(BPF_TYPES) is not what bpf/ says: run make gen" >&2; exit 1; }

# Not part of gen: to accept a rise is a decision.
bpf-instructions: native bpf $(NODE) ## Record what the verifier goes through for each program, on this kernel (root)
	$(Q)$(NODE) test/bpf/record-instructions.ts
