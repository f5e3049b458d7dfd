// Many elements of a map at a time, by the kernel's batches where the map's type has them. Knows nothing of
// JavaScript.
#pragma once
#include "errors.h"
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tortie
{

// What the kernel says of a map, and so how long keys and values are: lengths are never JavaScript's word.
struct MapShape {
	uint32_t type = 0;
	uint32_t id = 0;
	uint32_t keySize = 0;
	uint32_t valueSize = 0;
	uint32_t maxEntries = 0;
	uint32_t flags = 0;
	std::string name;

	bool perCpu() const;
	// Bytes from one element's value to the next where they stand back to back, and within mapped arrays.
	size_t elementSize() const;
	size_t stride() const;
	static size_t cpus();
	std::string object() const;
};

MapShape ShapeOf(int fd);

// Elements back to back.
struct Elements {
	std::vector<uint8_t> keys;
	std::vector<uint8_t> values;
	size_t count = 0;
};

Elements DumpAll(int fd, const MapShape &shape);

// How far a batch came, and what stopped it.
struct Progress {
	// Elements dealt with.
	size_t count = 0;
	// Of those, elements that were there (deletion).
	size_t found = 0;
	std::optional<Failure> failure;
};

Progress SetAll(int fd, const MapShape &shape, const std::vector<uint8_t> &keys,
		const std::vector<uint8_t> &values, size_t count, uint64_t flags);
// Keys that aren't there are passed over.
Progress DeleteAll(int fd, const MapShape &shape, const std::vector<uint8_t> &keys, size_t count);

} // namespace tortie
