// A map: single elements at once on the calling thread (microseconds), many on a worker.
#include "bpf.h"
#include "args.h"
#include "netns.h"
#include "worker.h"
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <unordered_set>

namespace tortie
{
namespace
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

	bool perCpu() const
	{
		return type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_ARRAY ||
		       type == BPF_MAP_TYPE_LRU_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE;
	}
	// bpf(2): per-CPU values travel one after the other, each rounded up to 8 bytes, for every possible
	// CPU.
	size_t elementSize() const
	{
		return perCpu() ? (valueSize + 7) / 8 * 8 * cpus() : valueSize;
	}
	static size_t cpus()
	{
		const int count = libbpf_num_possible_cpus();
		return count > 0 ? count : 1;
	}
	std::string object() const
	{
		return "map " + name;
	}
};

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

// Elements back to back.
struct Elements {
	std::vector<uint8_t> keys;
	std::vector<uint8_t> values;
	size_t count = 0;
};

bool NotSupported(int error)
{
	// 524: the kernel's own ENOTSUPP, which has no name outside.
	return error == EINVAL || error == EOPNOTSUPP || error == 524;
}

// By batches of whole hash buckets. False when this map type has none.
bool DumpByBatch(int fd, const MapShape &shape, Elements &out)
{
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
			if (!started && NotSupported(error))
				return false;
			ThrowErrno("bpf", "dump of " + shape.object());
		}
		out.keys.insert(out.keys.end(), keys.begin(), keys.begin() + size_t(count) * shape.keySize);
		out.values.insert(out.values.end(), values.begin(),
				  values.begin() + size_t(count) * shape.elementSize());
		out.count += count;
		if (error == ENOENT)
			return true;
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
		if (!seen.emplace(reinterpret_cast<char *>(key.data()), key.size()).second)
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

// How far a batch came, and what stopped it.
struct Written {
	size_t count = 0;
	std::optional<Failure> failure;
};

Written SetAll(int fd, const MapShape &shape, const std::vector<uint8_t> &keys,
	       const std::vector<uint8_t> &values, size_t count)
{
	Written written;
	const auto fail = [&] {
		Failure failure;
		failure.number = errno;
		failure.syscall = "bpf";
		failure.object = "batch into " + shape.object();
		written.failure = failure;
	};
	if (count == 0)
		return written;
	uint32_t batch = static_cast<uint32_t>(count);
	if (bpf_map_update_batch(fd, keys.data(), values.data(), &batch, nullptr) == 0) {
		written.count = count;
		return written;
	}
	if (!NotSupported(errno)) {
		// With EFAULT the kernel has not said how far it got.
		written.count = errno == EFAULT ? 0 : batch;
		fail();
		return written;
	}
	for (; written.count < count; written.count++) {
		if (bpf_map_update_elem(fd, keys.data() + written.count * shape.keySize,
					values.data() + written.count * shape.elementSize(), BPF_ANY) != 0) {
			fail();
			return written;
		}
	}
	return written;
}

class BpfMap : public Napi::ObjectWrap<BpfMap>
{
      public:
	static void Init(Napi::Env env, Napi::Object exports)
	{
		exports.Set("BpfMap", DefineClass(env, "BpfMap",
						  {
						      InstanceMethod<&BpfMap::Info>("info"),
						      InstanceMethod<&BpfMap::Get>("get"),
						      InstanceMethod<&BpfMap::Set>("set"),
						      InstanceMethod<&BpfMap::Delete>("delete"),
						      InstanceMethod<&BpfMap::Dump>("dump"),
						      InstanceMethod<&BpfMap::SetMany>("setMany"),
						      InstanceMethod<&BpfMap::Close>("close"),
						  }));
	}

	// Owns the descriptor from here on, also if this fails.
	explicit BpfMap(const Napi::CallbackInfo &info) : Napi::ObjectWrap<BpfMap>(info)
	{
		Guarded(info.Env(), "map", [&] {
			fd_ = Fd(FdFrom(info[0], "fd"));
			shape_ = ShapeOf(fd_.get());
		});
	}

      private:
	int fd() const
	{
		if (!fd_) {
			errno = EBADF;
			ThrowErrno("bpf", shape_.object() + " (closed)");
		}
		return fd_.get();
	}

	Napi::Value Info(const Napi::CallbackInfo &info)
	{
		return Guarded(info.Env(), "map", [&]() -> Napi::Value {
			Napi::Object out = Napi::Object::New(info.Env());
			out.Set("fd", fd());
			out.Set("id", shape_.id);
			out.Set("name", shape_.name);
			out.Set("type", shape_.type);
			out.Set("keySize", shape_.keySize);
			out.Set("valueSize", shape_.valueSize);
			out.Set("maxEntries", shape_.maxEntries);
			out.Set("flags", shape_.flags);
			out.Set("cpus", shape_.perCpu() ? static_cast<double>(MapShape::cpus()) : 1);
			return out;
		});
	}

	// get(key): bytes, or undefined
	Napi::Value Get(const Napi::CallbackInfo &info)
	{
		return Guarded(info.Env(), "map.get", [&]() -> Napi::Value {
			const auto key = Bytes(info[0], "key", shape_.keySize);
			auto value = Napi::Uint8Array::New(info.Env(), shape_.elementSize());
			if (bpf_map_lookup_elem(fd(), key.data(), value.Data()) == 0)
				return value;
			if (errno != ENOENT)
				ThrowErrno("bpf", "get from " + shape_.object());
			return info.Env().Undefined();
		});
	}

	// set(key, value, flags, netns?): a device map looks its devices up in the namespace of the calling
	// thread
	Napi::Value Set(const Napi::CallbackInfo &info)
	{
		return Guarded(info.Env(), "map.set", [&]() -> Napi::Value {
			const auto key = Bytes(info[0], "key", shape_.keySize);
			const auto value = Bytes(info[1], "value", shape_.elementSize());
			const uint64_t flags = info[2].As<Napi::Number>().Uint32Value();
			const auto netns = NetnsFromValue(info[3], "netns");
			const int map = fd();
			InNetns(netns, [&] {
				if (bpf_map_update_elem(map, key.data(), value.data(), flags) != 0)
					ThrowErrno("bpf", "set in " + shape_.object());
			});
			return info.Env().Undefined();
		});
	}

	// delete(key): was it there?
	Napi::Value Delete(const Napi::CallbackInfo &info)
	{
		return Guarded(info.Env(), "map.delete", [&]() -> Napi::Value {
			const auto key = Bytes(info[0], "key", shape_.keySize);
			if (bpf_map_delete_elem(fd(), key.data()) == 0)
				return Napi::Boolean::New(info.Env(), true);
			if (errno != ENOENT)
				ThrowErrno("bpf", "delete from " + shape_.object());
			return Napi::Boolean::New(info.Env(), false);
		});
	}

	// dump(): Promise<{count, keys, values}>, back to back
	Napi::Value Dump(const Napi::CallbackInfo &info)
	{
		return Guarded(info.Env(), "map.dump", [&]() -> Napi::Value {
			auto map = std::make_shared<Fd>(Duplicate(fd(), shape_.object()));
			return OnWorker<Elements>(
			    info.Env(),
			    [map, shape = shape_] {
				    Elements out;
				    if (!DumpByBatch(map->get(), shape, out))
					    DumpByKey(map->get(), shape, out);
				    return out;
			    },
			    [](Napi::Env env, Elements &out) -> Napi::Value {
				    Napi::Object result = Napi::Object::New(env);
				    result.Set("count", static_cast<double>(out.count));
				    result.Set("keys", ToBytes(env, out.keys));
				    result.Set("values", ToBytes(env, out.values));
				    return result;
			    });
		});
	}

	// setMany(keys, values): Promise<void>; on failure the error's `completed` says how many were set
	Napi::Value SetMany(const Napi::CallbackInfo &info)
	{
		return Guarded(info.Env(), "map.setMany", [&]() -> Napi::Value {
			auto keys = std::make_shared<std::vector<uint8_t>>(CopyOf(info[0], "keys"));
			if (keys->size() % shape_.keySize != 0)
				throw BadArgument("keys", "is not a whole number of keys");
			const size_t count = keys->size() / shape_.keySize;
			auto values = std::make_shared<std::vector<uint8_t>>(CopyOf(info[1], "values"));
			if (values->size() != count * shape_.elementSize())
				throw BadArgument("values", "has " + std::to_string(values->size()) +
								" bytes, not " +
								std::to_string(count * shape_.elementSize()));
			auto map = std::make_shared<Fd>(Duplicate(fd(), shape_.object()));
			return OnWorker<Written>(
			    info.Env(),
			    [map, keys, values, count, shape = shape_] {
				    return SetAll(map->get(), shape, *keys, *values, count);
			    },
			    [](Napi::Env env, Written &written) -> Napi::Value {
				    if (!written.failure)
					    return env.Undefined();
				    Napi::Error error = ToError(env, *written.failure);
				    error.Set("completed",
					      Napi::Number::New(env, static_cast<double>(written.count)));
				    throw error;
			    });
		});
	}

	Napi::Value Close(const Napi::CallbackInfo &info)
	{
		fd_ = Fd();
		return info.Env().Undefined();
	}

	Fd fd_;
	MapShape shape_;
};

} // namespace

void InitBpfMap(Napi::Env env, Napi::Object exports)
{
	BpfMap::Init(env, exports);
}

} // namespace tortie
