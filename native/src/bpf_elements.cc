#include "bpf_elements.h"
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <unordered_set>

namespace tortie
{

bool MapShape::perCpu() const
{
	return type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_ARRAY ||
	       type == BPF_MAP_TYPE_LRU_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE;
}

// bpf(2): per-CPU values travel one after the other, each rounded up to 8 bytes, for every possible CPU.
size_t MapShape::elementSize() const
{
	return perCpu() ? stride() * cpus() : valueSize;
}

size_t MapShape::stride() const
{
	return (size_t(valueSize) + 7) / 8 * 8;
}

size_t MapShape::cpus()
{
	const int count = libbpf_num_possible_cpus();
	return count > 0 ? count : 1;
}

std::string MapShape::object() const
{
	return "map " + name;
}

MapShape ShapeOf(int fd)
{
	bpf_map_info info = {};
	uint32_t length = sizeof(info);
	if (bpf_obj_get_info_by_fd(fd, &info, &length) != 0)
		ThrowErrno("bpf", "map information of fd " + std::to_string(fd));
	MapShape shape;
	shape.type = info.type;
	shape.id = info.id;
	shape.keySize = info.key_size;
	shape.valueSize = info.value_size;
	shape.maxEntries = info.max_entries;
	shape.flags = info.map_flags;
	shape.name.assign(info.name, strnlen(info.name, sizeof(info.name)));
	return shape;
}

namespace
{

bool NotSupported(int error)
{
	// 524: the kernel's own ENOTSUPP, which has no name outside.
	return error == EINVAL || error == EOPNOTSUPP || error == 524;
}

std::string_view KeyAt(const std::vector<uint8_t> &keys, size_t index, size_t size)
{
	return {reinterpret_cast<const char *>(keys.data()) + index * size, size};
}

// A trie's walk goes on behind a key; when that is deleted under us it starts anew, and keys come again.
bool HasTwice(const Elements &elements, size_t keySize)
{
	std::unordered_set<std::string_view> seen;
	for (size_t i = 0; i < elements.count; i++)
		if (!seen.insert(KeyAt(elements.keys, i, keySize)).second)
			return true;
	return false;
}

// By batches: whole buckets of a hash, runs of keys of other maps. False when this map type has none, or the
// walk was disturbed in a way that only the other dump copes with.
bool DumpByBatch(int fd, const MapShape &shape, Elements &out)
{
	const bool walksKeys = shape.type == BPF_MAP_TYPE_LPM_TRIE;
	// Room for the position, which is a u32 for hashes and a key for others.
	std::vector<uint8_t> position(std::max<size_t>(shape.keySize, 4));
	uint32_t room = std::min<uint32_t>(std::max<uint32_t>(shape.maxEntries, 64), 4096);
	bool started = false;
	for (;;) {
		std::vector<uint8_t> keys(size_t(room) * shape.keySize),
		    values(size_t(room) * shape.elementSize());
		std::vector<uint8_t> next(position.size());
		uint32_t count = room;
		const int result = bpf_map_lookup_batch(fd, started ? position.data() : nullptr, next.data(),
							keys.data(), values.data(), &count, nullptr);
		const int error = result == 0 ? 0 : errno;
		if (error == ENOSPC) { // One bucket holds more than the room.
			room *= 2;
			continue;
		}
		if (error != 0 && error != ENOENT) {
			if ((!started && NotSupported(error)) || (walksKeys && error == EINTR))
				return false;
			ThrowErrno("bpf", "dump of " + shape.object());
		}
		out.keys.insert(out.keys.end(), keys.begin(), keys.begin() + size_t(count) * shape.keySize);
		out.values.insert(out.values.end(), values.begin(),
				  values.begin() + size_t(count) * shape.elementSize());
		out.count += count;
		if (error == ENOENT)
			return !walksKeys || !HasTwice(out, shape.keySize);
		// It has come to more than the map can hold: it goes in circles.
		if (walksKeys && out.count > shape.maxEntries)
			return false;
		position.swap(next);
		started = true;
	}
}

// One by one. A key that is deleted under us sends the walk back to the start: keys seen before are passed
// over, and the number of steps is bounded.
void DumpByKey(int fd, const MapShape &shape, Elements &out)
{
	std::vector<uint8_t> key(shape.keySize), next(shape.keySize), value(shape.elementSize());
	std::unordered_set<std::string> seen;
	const uint64_t most = uint64_t(shape.maxEntries) * 4 + 64;
	bool started = false;
	for (uint64_t step = 0; step < most; step++) {
		if (bpf_map_get_next_key(fd, started ? key.data() : nullptr, next.data()) != 0) {
			if (errno == ENOENT)
				return;
			ThrowErrno("bpf", "dump of " + shape.object());
		}
		key.swap(next);
		started = true;
		if (!seen.emplace(KeyAt(key, 0, key.size())).second)
			continue;
		if (bpf_map_lookup_elem(fd, key.data(), value.data()) != 0) {
			if (errno == ENOENT)
				continue;
			ThrowErrno("bpf", "dump of " + shape.object());
		}
		out.keys.insert(out.keys.end(), key.begin(), key.end());
		out.values.insert(out.values.end(), value.begin(), value.end());
		out.count++;
	}
	errno = EINTR;
	ThrowErrno("bpf", "dump of " + shape.object());
}

Failure FailureNow(const std::string &object)
{
	Failure failure;
	failure.number = errno;
	failure.syscall = "bpf";
	failure.object = object;
	return failure;
}

// How many elements a failed batch has done. The kernel leaves the number as it was when it fails before the
// first (no memory, no rights), and can't have done all of them when it fails.
size_t DoneBy(uint32_t count, uint32_t asked)
{
	return count < asked ? count : 0;
}

// A system call's share, so that a number always fits.
constexpr size_t batchMost = 1 << 20;

} // namespace

Elements DumpAll(int fd, const MapShape &shape)
{
	Elements out;
	if (DumpByBatch(fd, shape, out))
		return out;
	out = {};
	DumpByKey(fd, shape, out);
	return out;
}

Progress SetAll(int fd, const MapShape &shape, const std::vector<uint8_t> &keys,
		const std::vector<uint8_t> &values, size_t count, uint64_t flags)
{
	Progress done;
	const auto fail = [&] { done.failure = FailureNow("batch into " + shape.object()); };
	const auto key = [&] { return keys.data() + done.count * shape.keySize; };
	const auto value = [&] { return values.data() + done.count * shape.elementSize(); };
	// A batch takes BPF_ANY alone.
	while (flags == BPF_ANY && done.count < count) {
		const auto asked = static_cast<uint32_t>(std::min(count - done.count, batchMost));
		uint32_t batch = asked;
		if (bpf_map_update_batch(fd, key(), value(), &batch, nullptr) == 0) {
			done.count += asked;
			continue;
		}
		// Also what the map says to an element: then that one fails again below.
		if (NotSupported(errno))
			break;
		done.count += DoneBy(batch, asked);
		fail();
		return done;
	}
	for (; done.count < count; done.count++) {
		if (bpf_map_update_elem(fd, key(), value(), flags) != 0) {
			fail();
			return done;
		}
	}
	return done;
}

Progress DeleteAll(int fd, const MapShape &shape, const std::vector<uint8_t> &keys, size_t count)
{
	Progress done;
	const auto fail = [&] { done.failure = FailureNow("batch out of " + shape.object()); };
	const auto key = [&] { return keys.data() + done.count * shape.keySize; };
	while (done.count < count) {
		const auto asked = static_cast<uint32_t>(std::min(count - done.count, batchMost));
		uint32_t batch = asked;
		if (bpf_map_delete_batch(fd, key(), &batch, nullptr) == 0) {
			done.count += asked;
			done.found += asked;
			continue;
		}
		if (NotSupported(errno))
			break;
		const size_t gone = DoneBy(batch, asked);
		done.count += gone;
		done.found += gone;
		if (errno != ENOENT) {
			fail();
			return done;
		}
		done.count++;
	}
	for (; done.count < count; done.count++) {
		if (bpf_map_delete_elem(fd, key()) == 0) {
			done.found++;
		} else if (errno != ENOENT) {
			fail();
			return done;
		}
	}
	return done;
}

} // namespace tortie
