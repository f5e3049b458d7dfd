# The addon: native/src/*.cc -> dist/lib/tortie_native.node, with the shared libraries it needs beside it, so that dist/ stands alone.
CXX ?= g++
NATIVE_SOURCES := $(wildcard native/src/*.cc)
NATIVE_OBJECTS := $(NATIVE_SOURCES:native/src/%.cc=$(BUILD)/native/%.o)
NATIVE_CXXFLAGS := -std=c++20 -O2 -g -fPIC -fvisibility=hidden -Wall -Wextra -Werror -MMD -MP -DNAPI_VERSION=9 -DNODE_ADDON_API_CPP_EXCEPTIONS \
	-D_GNU_SOURCE -isystem node_modules/node-addon-api -isystem node_modules/node-api-headers/include -isystem $(NODE_PACKAGE)/include/node
# DT_RPATH and not DT_RUNPATH: it also holds for what the libraries themselves need (libelf wants libzstd on newer systems).
NATIVE_LDFLAGS := -shared -static-libstdc++ -static-libgcc -Wl,-rpath,'$$ORIGIN',--disable-new-dtags,--no-undefined-version
NATIVE_LIBS := -lmnl -lbpf -lelf -lz -lpthread

native: $(DIST)/lib/tortie_native.node ## The C++ addon: netlink, namespaces, bpf

$(BUILD)/native/%.o: native/src/%.cc native/native.mk
	@echo "  CXX     $<"
	$(Q)mkdir -p $(@D) && $(CXX) $(NATIVE_CXXFLAGS) $(CXXFLAGS) -MT $@ -MF $(@:.o=.d) -c $< -o $@.$$$$ && mv -f $@.$$$$ $@

$(BUILD)/native/tortie_native.node: $(NATIVE_OBJECTS) native/native.mk
	@echo "  LINK    $@"
	$(Q)$(CXX) $(NATIVE_LDFLAGS) $(LDFLAGS) $(NATIVE_OBJECTS) $(NATIVE_LIBS) -o $@.$$$$ && mv -f $@.$$$$ $@

# Copied under another name and renamed, as everything here: a process that has the old one mapped keeps it, and of two makes at once
# neither reads what the other has half written. The C library itself is the system's.
$(DIST)/lib/tortie_native.node: $(BUILD)/native/tortie_native.node
	@echo "  COPY    $@"
	$(Q)mkdir -p $(@D)
	$(Q)ldd $< | awk '$$2 == "=>" && $$1 !~ /^(libc|libm|libpthread|libdl|librt)\.so/ {print $$1, $$3}' | while read -r name path; do \
		[ -f "$$path" ] || { echo "tortie: $$name is missing: run npm run setup" >&2; exit 1; }; \
		cp -Lf "$$path" $(@D)/.$$name.$$$$ && mv -f $(@D)/.$$name.$$$$ $(@D)/$$name || exit 1; \
	done
	$(Q)cp -f $< $@.$$$$ && mv -f $@.$$$$ $@

-include $(NATIVE_OBJECTS:.o=.d)
