# The CNI executable: one static file that starts in a millisecond.
LAUNCHER_DIR := cni-plugin/launcher
LAUNCHER_BUILD := $(BUILD)/launcher
LAUNCHER_SOURCES := $(LAUNCHER_DIR)/tortie.c $(LAUNCHER_DIR)/json.c
LAUNCHER_CFLAGS := -std=gnu17 -Os -static -Wall -Wextra -Werror -Wshadow -Wformat=2 -Wconversion -Wno-sign-conversion \
	-ffunction-sections -fdata-sections -Wl,--gc-sections -s

.PHONY: launcher
launcher: $(DIST)/cni/tortie ## The CNI executable, dist/cni/tortie

$(LAUNCHER_BUILD)/header.h: $(LAUNCHER_DIR)/gen-header.ts cni-plugin/protocol.ts cni-plugin/versions.ts cni-plugin/errors.ts cni-plugin/conf.ts $(NODE)
	$(Q)mkdir -p $(@D) && $(NODE) $< > $@

$(DIST)/cni/tortie: $(LAUNCHER_SOURCES) $(LAUNCHER_DIR)/json.h $(LAUNCHER_BUILD)/header.h $(LAUNCHER_DIR)/launcher.mk
	@echo "  CC      $@"
	$(Q)mkdir -p $(@D) && $(CC) $(LAUNCHER_CFLAGS) -I$(LAUNCHER_BUILD) -o $@.tmp $(LAUNCHER_SOURCES) && mv -f $@.tmp $@
