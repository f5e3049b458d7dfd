// The types of a map's keys and values, as its program's object had them. Knows nothing of JavaScript.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

namespace tortie
{

struct MapTypes {
	// Numbers of types in `btf`.
	uint32_t key = 0;
	uint32_t value = 0;
	// As the kernel keeps it (Documentation/bpf/btf.rst).
	std::vector<uint8_t> btf;
};

// Nothing for a map that was made without types.
std::optional<MapTypes> TypesOf(int fd);

} // namespace tortie
