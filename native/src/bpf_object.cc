// Object files into the kernel by libbpf, on a worker (10-500 ms); pins; mounting the bpf file system.
#include "bpf.h"
#include "args.h"
#include "worker.h"
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <optional>
#include <sys/mount.h>
#include <unistd.h>

namespace tortie
{
namespace
{

// The verifier's limit for a log up to kernel 5.1. The memory is touched only as far as the log goes; a log
// that doesn't fit would hide the reason behind ENOSPC.
constexpr size_t logBytes = UINT32_MAX >> 8;

// What libbpf complained of on this thread, in one load.
thread_local std::string complaints;

int Collect(enum libbpf_print_level level, const char *format, va_list arguments)
{
	if (level != LIBBPF_WARN)
		return 0;
	char line[1024];
	vsnprintf(line, sizeof(line), format, arguments);
	// With a log buffer of ours libbpf still announces and repeats the verifier's log.
	if (!strstr(line, "BEGIN PROG LOAD LOG") && !strstr(line, "END PROG LOAD LOG"))
		complaints += line;
	return 0;
}

struct MapWish {
	std::string name;
	std::optional<uint32_t> maxEntries;
	// A map that exists already takes the place of this one.
	Fd reuse;
	// An object without it is loaded all the same.
	bool ifThere = false;
};

struct ConfigWish {
	std::string name;
	std::vector<uint8_t> bytes;
};

struct ProgramWish {
	std::string name;
	std::optional<uint32_t> attachType;
};

struct LoadRequest {
	std::string name;
	std::vector<uint8_t> bytes;
	std::vector<MapWish> maps;
	std::vector<ConfigWish> config;
	// These alone; nothing: all of them.
	std::optional<std::vector<ProgramWish>> programs;

	std::string object() const
	{
		return "load of BPF object " + name;
	}
};

struct Loaded {
	struct Part {
		std::string name;
		Fd fd;
	};
	std::vector<Part> maps;
	std::vector<Part> programs;
	std::optional<Failure> failure;
	// Of the program that the verifier refused.
	std::string program;
	std::string log;
};

struct ObjectCloser {
	void operator()(bpf_object *object) const
	{
		bpf_object__close(object);
	}
};
using Object = std::unique_ptr<bpf_object, ObjectCloser>;

[[noreturn]] void Refuse(const LoadRequest &request, int number, std::string text, const char *code = "")
{
	Failure failure;
	failure.number = number;
	failure.syscall = "libbpf";
	failure.object = request.object();
	failure.code = code;
	failure.text = std::move(text);
	while (!failure.text.empty() && failure.text.back() == '\n')
		failure.text.pop_back();
	throw KernelError(failure);
}

[[noreturn]] void RefuseWithComplaints(const LoadRequest &request, int number)
{
	char words[256];
	// Also of libbpf's own numbers, from 4000 on.
	libbpf_strerror(number, words, sizeof(words));
	std::string text = complaints.empty() ? words : std::string(words) + ": " + complaints;
	Refuse(request, number, std::move(text), number >= __LIBBPF_ERRNO__START ? "ERR_BPF_OBJECT" : "");
}

bpf_map *ReadOnlyData(bpf_object *object)
{
	bpf_map *map;
	bpf_object__for_each_map(map, object)
	{
		const char *section = bpf_map__name(map);
		// An internal map is named <object>.rodata.
		const char *dot = section ? strrchr(section, '.') : nullptr;
		if (bpf_map__is_internal(map) && dot && strcmp(dot, ".rodata") == 0)
			return map;
	}
	return nullptr;
}

// Where a variable of .rodata is, by the object's BTF, whose offsets libbpf has taken from the ELF symbols by
// now.
void WriteConfig(const LoadRequest &request, bpf_object *object, const ConfigWish &wish)
{
	const btf *types = bpf_object__btf(object);
	const int section = types ? btf__find_by_name_kind(types, ".rodata", BTF_KIND_DATASEC) : -1;
	bpf_map *map = ReadOnlyData(object);
	size_t size = 0;
	auto *data =
	    map ? const_cast<uint8_t *>(static_cast<const uint8_t *>(bpf_map__initial_value(map, &size)))
		: nullptr;
	if (section < 0 || !data)
		Refuse(request, ENOENT, "it has no read-only data for " + wish.name);
	const btf_type *type = btf__type_by_id(types, section);
	const btf_var_secinfo *variable = btf_var_secinfos(type);
	for (int i = 0; i < btf_vlen(type); i++, variable++) {
		const btf_type *var = btf__type_by_id(types, variable->type);
		if (wish.name != btf__name_by_offset(types, var->name_off))
			continue;
		if (variable->size != wish.bytes.size() || variable->offset + variable->size > size)
			Refuse(request, EINVAL,
			       wish.name + " has " + std::to_string(variable->size) + " bytes, not " +
				   std::to_string(wish.bytes.size()));
		memcpy(data + variable->offset, wish.bytes.data(), wish.bytes.size());
		return;
	}
	Refuse(request, ENOENT, "it has no read-only variable " + wish.name);
}

void ArrangeMap(const LoadRequest &request, bpf_object *object, const MapWish &wish)
{
	bpf_map *map = bpf_object__find_map_by_name(object, wish.name.c_str());
	if (!map && wish.ifThere)
		return;
	if (!map)
		Refuse(request, ENOENT, "it has no map " + wish.name);
	int result = 0;
	if (wish.maxEntries)
		result = bpf_map__set_max_entries(map, *wish.maxEntries);
	if (result == 0 && wish.reuse)
		result = bpf_map__reuse_fd(map, wish.reuse.get());
	if (result != 0)
		Refuse(request, -result, "map " + wish.name + ": " + strerrordesc_np(-result));
}

void SelectPrograms(const LoadRequest &request, bpf_object *object)
{
	if (!request.programs)
		return;
	bpf_program *program;
	bpf_object__for_each_program(program, object) bpf_program__set_autoload(program, false);
	for (const ProgramWish &wish : *request.programs) {
		program = bpf_object__find_program_by_name(object, wish.name.c_str());
		if (!program)
			Refuse(request, ENOENT, "it has no program " + wish.name);
		bpf_program__set_autoload(program, true);
		if (wish.attachType)
			bpf_program__set_expected_attach_type(program,
							      static_cast<bpf_attach_type>(*wish.attachType));
	}
}

Loaded Load(LoadRequest &request)
{
	complaints.clear();
	Loaded loaded;
	LIBBPF_OPTS(bpf_object_open_opts, options);
	options.object_name = request.name.c_str();
	Object object(bpf_object__open_mem(request.bytes.data(), request.bytes.size(), &options));
	if (!object)
		RefuseWithComplaints(request, errno);
	for (const MapWish &wish : request.maps)
		ArrangeMap(request, object.get(), wish);
	for (const ConfigWish &wish : request.config)
		WriteConfig(request, object.get(), wish);
	SelectPrograms(request, object.get());

	std::vector<std::pair<std::string, std::unique_ptr<char[]>>> logs;
	bpf_program *program;
	bpf_object__for_each_program(program, object.get())
	{
		if (!bpf_program__autoload(program))
			continue;
		// Not value-initialised: that would touch all of it.
		std::unique_ptr<char[]> log(new char[logBytes]);
		log[0] = '\0';
		if (bpf_program__set_log_buf(program, log.get(), logBytes) != 0)
			RefuseWithComplaints(request, errno);
		logs.emplace_back(bpf_program__name(program), std::move(log));
	}
	const int result = bpf_object__load(object.get());
	if (result != 0) {
		// libbpf asks for a log only when a load has failed, and then stops: the one that isn't empty
		// tells.
		for (const auto &[name, log] : logs) {
			if (log[0] == '\0')
				continue;
			loaded.program = name;
			loaded.log.assign(log.get(), strnlen(log.get(), logBytes));
		}
		if (loaded.program.empty())
			RefuseWithComplaints(request, -result);
		Failure failure;
		failure.number = -result;
		failure.syscall = "bpf";
		failure.object = request.object() + ", program " + loaded.program;
		failure.text = "the verifier refused it";
		loaded.failure = failure;
		return loaded;
	}
	bpf_map *map;
	bpf_object__for_each_map(map, object.get())
	{
		if (!bpf_map__is_internal(map))
			loaded.maps.push_back(
			    {bpf_map__name(map), Duplicate(bpf_map__fd(map), request.object())});
	}
	bpf_object__for_each_program(program, object.get())
	{
		if (bpf_program__autoload(program))
			loaded.programs.push_back({bpf_program__name(program),
						   Duplicate(bpf_program__fd(program), request.object())});
	}
	return loaded;
}

// Names and descriptors; who gets them owns them.
Napi::Object ToParts(Napi::Env env, std::vector<Loaded::Part> &parts, const char *className,
		     Napi::Object exports)
{
	Napi::Object out = Napi::Object::New(env);
	for (Loaded::Part &part : parts) {
		// The constructor owns it, also if it throws.
		const int fd = part.fd.release();
		out.Set(part.name,
			exports.Get(className).As<Napi::Function>().New({Napi::Number::New(env, fd)}));
	}
	return out;
}

LoadRequest ReadRequest(Napi::Value value)
{
	const Args args(value, "load");
	const auto object = value.As<Napi::Object>();
	LoadRequest request;
	request.name = args.String("name", 64);
	request.bytes = CopyOf(object.Get("bytes"), "bytes");
	const Napi::Array maps = args.Array("maps");
	for (uint32_t i = 0; i < maps.Length(); i++) {
		const Args map(maps.Get(i), "maps[" + std::to_string(i) + "]");
		MapWish wish;
		wish.name = map.String("name", 64);
		wish.maxEntries = map.OptionalNumber("maxEntries", 1);
		if (const auto fd = map.OptionalNumber("fd", 0, INT32_MAX))
			wish.reuse = Duplicate(static_cast<int>(*fd), "map " + wish.name);
		wish.ifThere = map.Flag("ifThere");
		request.maps.push_back(std::move(wish));
	}
	const Napi::Array config = args.Array("config");
	for (uint32_t i = 0; i < config.Length(); i++) {
		const Args entry(config.Get(i), "config[" + std::to_string(i) + "]");
		request.config.push_back(
		    {entry.String("name", 256),
		     CopyOf(config.Get(i).As<Napi::Object>().Get("bytes"), "config bytes")});
	}
	if (args.Has("programs")) {
		const Napi::Array programs = args.Array("programs");
		request.programs.emplace();
		for (uint32_t i = 0; i < programs.Length(); i++) {
			const Args program(programs.Get(i), "programs[" + std::to_string(i) + "]");
			request.programs->push_back(
			    {program.String("name", 256), program.OptionalNumber("attachType", 0, 1000)});
		}
	}
	return request;
}

// bpfLoad({name, bytes, maps: [{name, maxEntries?, fd?}], config: [{name, bytes}], programs?: [{name,
// attachType?}]}): Promise<{maps, programs}>, both by name
Napi::Value JsLoad(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "bpfLoad", [&]() -> Napi::Value {
		auto request = std::make_shared<LoadRequest>(ReadRequest(info[0]));
		auto exports =
		    std::make_shared<Napi::ObjectReference>(Napi::Persistent(info.This().As<Napi::Object>()));
		return OnWorker<Loaded>(
		    info.Env(), [request] { return Load(*request); },
		    [exports](Napi::Env env, Loaded &loaded) -> Napi::Value {
			    if (loaded.failure) {
				    Napi::Error error = ToError(env, *loaded.failure);
				    error.Set("program", loaded.program);
				    error.Set("verifierLog", loaded.log);
				    throw error;
			    }
			    Napi::Object result = Napi::Object::New(env);
			    result.Set("maps", ToParts(env, loaded.maps, "BpfMap", exports->Value()));
			    result.Set("programs",
				       ToParts(env, loaded.programs, "BpfProgram", exports->Value()));
			    return result;
		    });
	});
}

std::string PathFrom(Napi::Value value)
{
	if (!value.IsString())
		throw BadArgument("path", "must be text");
	return value.As<Napi::String>().Utf8Value();
}

// bpfPin(fd, path)
Napi::Value JsPin(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "bpfPin", [&]() -> Napi::Value {
		const std::string path = PathFrom(info[1]);
		if (bpf_obj_pin(FdFrom(info[0], "fd"), path.c_str()) != 0)
			ThrowErrno("bpf", "pin " + path);
		return info.Env().Undefined();
	});
}

// bpfOpenPinned(path, kind): a BpfMap or BpfProgram, or undefined when nothing is pinned there
Napi::Value JsOpenPinned(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "bpfOpenPinned", [&]() -> Napi::Value {
		const std::string path = PathFrom(info[0]);
		const std::string kind = PathFrom(info[1]);
		const std::string object = "pinned " + kind + " " + path;
		Fd fd(bpf_obj_get(path.c_str()));
		if (!fd) {
			if (errno == ENOENT)
				return info.Env().Undefined();
			ThrowErrno("bpf", object);
		}
		// Its kind is only in the name of the anonymous inode.
		char link[64] = "";
		const std::string self = "/proc/thread-self/fd/" + std::to_string(fd.get());
		if (readlink(self.c_str(), link, sizeof(link) - 1) < 0)
			ThrowErrno("readlink", object);
		const std::string wanted = kind == "map" ? "anon_inode:bpf-map" : "anon_inode:bpf-prog";
		if (wanted != link) {
			Failure failure;
			failure.number = EINVAL;
			failure.syscall = "bpf";
			failure.object = object;
			failure.text = std::string("it is no ") + kind + " but " + link;
			throw KernelError(failure);
		}
		const char *className = kind == "map" ? "BpfMap" : "BpfProgram";
		return info.This().As<Napi::Object>().Get(className).As<Napi::Function>().New(
		    {Napi::Number::New(info.Env(), fd.release())});
	});
}

// bpfMount(path, source): a new bpf file system there; `source` is what mountinfo will show
Napi::Value JsMount(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "bpfMount", [&]() -> Napi::Value {
		const std::string path = PathFrom(info[0]), source = PathFrom(info[1]);
		if (mount(source.c_str(), path.c_str(), "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC,
			  "mode=0700") != 0)
			ThrowErrno("mount", "bpf file system at " + path);
		return info.Env().Undefined();
	});
}

// bpfUnmount(path)
Napi::Value JsUnmount(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "bpfUnmount", [&]() -> Napi::Value {
		const std::string path = PathFrom(info[0]);
		if (umount2(path.c_str(), UMOUNT_NOFOLLOW) != 0)
			ThrowErrno("umount2", "bpf file system at " + path);
		return info.Env().Undefined();
	});
}

} // namespace

void InitBpfObject(Napi::Env env, Napi::Object exports)
{
	// One callback for the process; what it collects belongs to a thread.
	libbpf_set_print(Collect);
	exports.Set("bpfLoad", Napi::Function::New(env, JsLoad, "bpfLoad"));
	exports.Set("bpfPin", Napi::Function::New(env, JsPin, "bpfPin"));
	exports.Set("bpfOpenPinned", Napi::Function::New(env, JsOpenPinned, "bpfOpenPinned"));
	exports.Set("bpfMount", Napi::Function::New(env, JsMount, "bpfMount"));
	exports.Set("bpfUnmount", Napi::Function::New(env, JsUnmount, "bpfUnmount"));
}

} // namespace tortie
