// A map: single elements at once on the calling thread (microseconds), many on a worker.
#include "bpf.h"
#include "args.h"
#include "bpf_elements.h"
#include "bpf_types.h"
#include "netns.h"
#include "worker.h"
#include <bpf/bpf.h>
#include <cerrno>
#include <memory>
#include <sys/mman.h>
#include <unistd.h>

namespace tortie
{
namespace
{

// An array's memory for as long as JavaScript has a buffer of it; the mapping holds the map, whatever becomes
// of descriptors.
struct Mapping {
	void *start = nullptr;
	size_t length = 0;
};

Mapping MapArray(int fd, const MapShape &shape)
{
	const auto refuse = [&](std::string text) {
		Failure failure;
		failure.number = EINVAL;
		failure.syscall = "mmap";
		failure.object = shape.object();
		failure.text = std::move(text);
		throw KernelError(failure);
	};
	if (shape.type != BPF_MAP_TYPE_ARRAY)
		refuse("it is no array: only arrays have memory of one piece");
	if (!(shape.flags & BPF_F_MMAPABLE))
		refuse("it was made without BPF_F_MMAPABLE: add map_flags to its definition");
	Mapping mapping;
	mapping.length = shape.stride() * shape.maxEntries;
	// The kernel maps whole pages.
	const size_t pageSize = sysconf(_SC_PAGESIZE);
	mapping.length = (mapping.length + pageSize - 1) / pageSize * pageSize;
	mapping.start = mmap(nullptr, mapping.length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mapping.start == MAP_FAILED)
		ThrowErrno("mmap", shape.object());
	return mapping;
}

// `done` as it goes to JavaScript: a number, or the failure with how far it came.
Napi::Value ToValue(Napi::Env env, const Progress &progress)
{
	if (!progress.failure)
		return Napi::Number::New(env, static_cast<double>(progress.found));
	Napi::Error error = ToError(env, *progress.failure);
	error.Set("completed", Napi::Number::New(env, static_cast<double>(progress.count)));
	throw error;
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
						      InstanceMethod<&BpfMap::DeleteMany>("deleteMany"),
						      InstanceMethod<&BpfMap::Mmap>("mmap"),
						      InstanceMethod<&BpfMap::Types>("types"),
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
			    info.Env(), [map, shape = shape_] { return DumpAll(map->get(), shape); },
			    [](Napi::Env env, Elements &out) -> Napi::Value {
				    Napi::Object result = Napi::Object::New(env);
				    result.Set("count", static_cast<double>(out.count));
				    result.Set("keys", ToBytes(env, out.keys));
				    result.Set("values", ToBytes(env, out.values));
				    return result;
			    });
		});
	}

	// Keys from JavaScript, back to back, and how many.
	std::shared_ptr<std::vector<uint8_t>> KeysFrom(Napi::Value value, size_t &count) const
	{
		auto keys = std::make_shared<std::vector<uint8_t>>(CopyOf(value, "keys"));
		if (shape_.keySize == 0 || keys->size() % shape_.keySize != 0)
			throw BadArgument("keys", "is not a whole number of keys");
		count = keys->size() / shape_.keySize;
		return keys;
	}

	// setMany(keys, values, flags): Promise; on failure the error's `completed` says how many were set
	Napi::Value SetMany(const Napi::CallbackInfo &info)
	{
		return Guarded(info.Env(), "map.setMany", [&]() -> Napi::Value {
			size_t count = 0;
			const auto keys = KeysFrom(info[0], count);
			auto values = std::make_shared<std::vector<uint8_t>>(CopyOf(info[1], "values"));
			if (values->size() != count * shape_.elementSize())
				throw BadArgument("values", "has " + std::to_string(values->size()) +
								" bytes, not " +
								std::to_string(count * shape_.elementSize()));
			const uint64_t flags = info[2].As<Napi::Number>().Uint32Value();
			auto map = std::make_shared<Fd>(Duplicate(fd(), shape_.object()));
			return OnWorker<Progress>(
			    info.Env(),
			    [map, keys, values, count, flags, shape = shape_] {
				    return SetAll(map->get(), shape, *keys, *values, count, flags);
			    },
			    ToValue);
		});
	}

	// deleteMany(keys): Promise<number> of elements that were there
	Napi::Value DeleteMany(const Napi::CallbackInfo &info)
	{
		return Guarded(info.Env(), "map.deleteMany", [&]() -> Napi::Value {
			size_t count = 0;
			const auto keys = KeysFrom(info[0], count);
			auto map = std::make_shared<Fd>(Duplicate(fd(), shape_.object()));
			return OnWorker<Progress>(
			    info.Env(),
			    [map, keys, count, shape = shape_] {
				    return DeleteAll(map->get(), shape, *keys, count);
			    },
			    ToValue);
		});
	}

	// mmap(): an ArrayBuffer of the array's pages, unmapped when V8 has let go of them
	Napi::Value Mmap(const Napi::CallbackInfo &info)
	{
		return Guarded(info.Env(), "map.mmap", [&]() -> Napi::Value {
			const Mapping mapping = MapArray(fd(), shape_);
			return Napi::ArrayBuffer::New(
			    info.Env(), mapping.start, mapping.length,
			    [length = mapping.length](Napi::Env, void *start) { munmap(start, length); });
		});
	}

	// types(): {key, value, btf}, or undefined
	Napi::Value Types(const Napi::CallbackInfo &info)
	{
		return Guarded(info.Env(), "map.types", [&]() -> Napi::Value {
			const auto types = TypesOf(fd());
			if (!types)
				return info.Env().Undefined();
			Napi::Object out = Napi::Object::New(info.Env());
			out.Set("key", types->key);
			out.Set("value", types->value);
			out.Set("btf", ToBytes(info.Env(), types->btf));
			return out;
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
