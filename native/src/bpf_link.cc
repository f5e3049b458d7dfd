// Links: programs attached to devices (tcx, XDP) and control groups, and who else is there. All of it may
// wait for RTNL or a grace period: on a worker, in the device's namespace. libbpf 1.1 and the headers of 6.1
// don't know tcx, so the system call's structures stand here (linux/bpf.h of 6.6, union bpf_attr).
#include "bpf.h"
#include "args.h"
#include "own_thread.h"
#include "worker.h"
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <functional>
#include <memory>
#include <optional>
#include <sys/syscall.h>
#include <system_error>
#include <thread>
#include <unistd.h>

namespace tortie
{
namespace
{

struct LinkCreateAttr {
	uint32_t program;
	// An ifindex or the descriptor of a control group.
	uint32_t target;
	uint32_t attachType;
	uint32_t flags;
	// Descriptor or id of the neighbour, by `flags`.
	uint32_t relative;
	uint32_t reserved;
	uint64_t expectedRevision;
};

struct QueryAttr {
	uint32_t target;
	uint32_t attachType;
	uint32_t queryFlags;
	uint32_t attachFlags;
	uint64_t programIds;
	uint32_t count;
	uint32_t reserved;
	uint64_t programFlags;
	uint64_t linkIds;
	uint64_t linkFlags;
	uint64_t revision;
};

struct LinkInfoAttr {
	uint32_t type;
	uint32_t id;
	uint32_t program;
	uint32_t reserved;
	union {
		struct {
			uint32_t ifindex;
			uint32_t attachType;
		} tcx;
		struct {
			uint32_t ifindex;
		} xdp;
		struct {
			uint64_t id;
			uint32_t attachType;
		} cgroup;
		uint8_t room[64];
	};
};

// linux/bpf.h of 6.6, enum bpf_link_type and bpf_attach_type.
constexpr uint32_t linkTcx = 11;
constexpr uint32_t tcxIngress = 46, tcxEgress = 47;

template <typename Attr> int Bpf(int command, Attr &attr)
{
	return static_cast<int>(syscall(SYS_bpf, command, &attr, sizeof(attr)));
}

// Where a program is or shall be attached.
struct Target {
	uint32_t attachType = 0;
	uint32_t ifindex = 0;
	std::string cgroup;
	std::optional<std::string> netns;

	std::string text() const
	{
		if (!cgroup.empty())
			return "cgroup " + cgroup;
		return "device " + std::to_string(ifindex) + (netns ? " of netns " + *netns : "");
	}
	// The control group, opened, or nothing.
	Fd Open() const
	{
		if (cgroup.empty())
			return {};
		Fd fd(open(cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
		if (!fd)
			ThrowErrno("open", text());
		return fd;
	}
};

Target ReadTarget(const Args &args)
{
	Target target;
	target.attachType = args.Number("attachType", 0, 1000);
	if (args.Has("cgroup"))
		target.cgroup = args.String("cgroup");
	else
		target.ifindex = args.Number("ifindex", 1, INT32_MAX);
	target.netns = args.OptionalNetns("netns");
	return target;
}

// A link's last descriptor takes the program off when it is closed, which waits for a grace period: never on
// the main thread, and nobody waits for it.
void CloseElsewhere(Fd fd)
{
	if (!fd)
		return;
	const int number = fd.release();
	try {
		std::thread([number] { close(number); }).detach();
	} catch (const std::system_error &) {
		// No thread to be had.
		close(number);
	}
}

struct LinkInfo {
	uint32_t type = 0, id = 0, program = 0;
	std::optional<uint32_t> ifindex, attachType;
	std::optional<uint64_t> cgroup;
};

// Waits for RTNL where the link is a device's.
LinkInfo InfoOf(int fd, const std::string &object)
{
	LinkInfoAttr raw = {};
	uint32_t length = sizeof(raw);
	if (bpf_obj_get_info_by_fd(fd, &raw, &length) != 0)
		ThrowErrno("bpf", object);
	LinkInfo info;
	info.type = raw.type;
	info.id = raw.id;
	info.program = raw.program;
	if (raw.type == linkTcx) {
		info.ifindex = raw.tcx.ifindex;
		info.attachType = raw.tcx.attachType;
	} else if (raw.type == BPF_LINK_TYPE_XDP) {
		info.ifindex = raw.xdp.ifindex;
		info.attachType = BPF_XDP;
	} else if (raw.type == BPF_LINK_TYPE_CGROUP) {
		info.cgroup = raw.cgroup.id;
		info.attachType = raw.cgroup.attachType;
	}
	return info;
}

Napi::Value ToValue(Napi::Env env, LinkInfo &info)
{
	Napi::Object out = Napi::Object::New(env);
	out.Set("type", info.type);
	out.Set("id", info.id);
	out.Set("programId", info.program);
	// 0: the device is gone, and took the program off.
	if (info.ifindex && *info.ifindex != 0)
		out.Set("ifindex", *info.ifindex);
	if (info.attachType)
		out.Set("attachType", *info.attachType);
	if (info.cgroup)
		out.Set("cgroupId", Napi::BigInt::New(env, *info.cgroup));
	return out;
}

Napi::Value Nothing(Napi::Env env, bool &)
{
	return env.Undefined();
}

class BpfLink : public Napi::ObjectWrap<BpfLink>
{
      public:
	static void Init(Napi::Env env, Napi::Object exports)
	{
		exports.Set("BpfLink", DefineClass(env, "BpfLink",
						   {
						       InstanceMethod<&BpfLink::Descriptor>("fd"),
						       InstanceMethod<&BpfLink::Info>("info"),
						       InstanceMethod<&BpfLink::Update>("update"),
						       InstanceMethod<&BpfLink::Detach>("detach"),
						       InstanceMethod<&BpfLink::Close>("close"),
						   }));
	}

	// Owns the descriptor from here on, also if this fails.
	explicit BpfLink(const Napi::CallbackInfo &info) : Napi::ObjectWrap<BpfLink>(info)
	{
		Guarded(info.Env(), "link", [&] {
			fd_ = Fd(FdFrom(info[0], "fd"));
			object_ = "link " + info[1].ToString().Utf8Value();
		});
	}

	~BpfLink() override
	{
		CloseElsewhere(std::move(fd_));
	}

      private:
	int fd() const
	{
		if (!fd_) {
			errno = EBADF;
			ThrowErrno("bpf", object_ + " (closed)");
		}
		return fd_.get();
	}

	// Work with a second descriptor, which is closed before the promise is kept: who then closes the
	// first one closes the last.
	template <typename Result>
	Napi::Promise OnLink(Napi::Env env, std::function<Result(int)> work,
			     std::function<Napi::Value(Napi::Env, Result &)> done) const
	{
		const std::shared_ptr<Fd> shared(new Fd(Duplicate(fd(), object_)), [](Fd *fd) {
			CloseElsewhere(std::move(*fd));
			delete fd;
		});
		return OnWorker<Result>(
		    env,
		    [shared, work] {
			    const Fd own = std::move(*shared);
			    return work(own.get());
		    },
		    done);
	}

	Napi::Value Descriptor(const Napi::CallbackInfo &info)
	{
		return Guarded(info.Env(), "link",
			       [&]() -> Napi::Value { return Napi::Number::New(info.Env(), fd()); });
	}

	// info(): Promise
	Napi::Value Info(const Napi::CallbackInfo &info)
	{
		return Guarded(info.Env(), "link.info", [&]() -> Napi::Value {
			return OnLink<LinkInfo>(
			    info.Env(), [object = object_](int link) { return InfoOf(link, object); },
			    ToValue);
		});
	}

	// update(program fd, expected program fd?): Promise
	Napi::Value Update(const Napi::CallbackInfo &info)
	{
		return Guarded(info.Env(), "link.update", [&]() -> Napi::Value {
			auto program = std::make_shared<Fd>(
			    Duplicate(FdFrom(info[0], "program"), "program for " + object_));
			auto expected = std::make_shared<Fd>();
			if (!info[1].IsUndefined())
				*expected = Duplicate(FdFrom(info[1], "expected"), "program of " + object_);
			return OnLink<bool>(
			    info.Env(),
			    [program, expected, object = object_](int link) {
				    LIBBPF_OPTS(bpf_link_update_opts, options);
				    if (*expected) {
					    options.flags = BPF_F_REPLACE;
					    options.old_prog_fd = static_cast<uint32_t>(expected->get());
				    }
				    if (bpf_link_update(link, program->get(), &options) != 0)
					    ThrowErrno("bpf", "update of " + object);
				    return true;
			    },
			    Nothing);
		});
	}

	// detach(): Promise
	Napi::Value Detach(const Napi::CallbackInfo &info)
	{
		return Guarded(info.Env(), "link.detach", [&]() -> Napi::Value {
			return OnLink<bool>(
			    info.Env(),
			    [object = object_](int link) {
				    if (bpf_link_detach(link) != 0)
					    ThrowErrno("bpf", "detach of " + object);
				    return true;
			    },
			    Nothing);
		});
	}

	// close(): Promise; over when the program is off, if this was the link's last descriptor and it has
	// no pin
	Napi::Value Close(const Napi::CallbackInfo &info)
	{
		return Guarded(info.Env(), "link.close", [&]() -> Napi::Value {
			auto last = std::make_shared<Fd>(std::move(fd_));
			return OnWorker<bool>(
			    info.Env(),
			    [last] {
				    *last = Fd(); // Swaps: closed at the end of this statement.
				    return true;
			    },
			    Nothing);
		});
	}

	Fd fd_;
	std::string object_;
};

// A link that a worker has opened or made.
struct Opened {
	Fd fd;
	LinkInfo info;

	Opened(Fd fd, const std::string &object) : fd(std::move(fd)), info(InfoOf(this->fd.get(), object))
	{
	}
	Opened() = default;
	Opened(Opened &&) = default;
	Opened &operator=(Opened &&) = default;
	~Opened()
	{
		CloseElsewhere(std::move(fd));
	}
};

using Exports = std::shared_ptr<Napi::ObjectReference>;

Exports ExportsOf(const Napi::CallbackInfo &info)
{
	return std::make_shared<Napi::ObjectReference>(Napi::Persistent(info.This().As<Napi::Object>()));
}

// {link, info}
Napi::Value ToLink(Napi::Env env, const Exports &exports, Opened &opened)
{
	Napi::Object out = Napi::Object::New(env);
	out.Set("info", ToValue(env, opened.info));
	out.Set("link",
		exports->Value().Get("BpfLink").As<Napi::Function>().New(
		    {Napi::Number::New(env, opened.fd.release()), Napi::Number::New(env, opened.info.id)}));
	return out;
}

// bpfLinkCreate({program, attachType, ifindex | cgroup, netns?, flags, relative}): Promise<{link, info}>
Napi::Value JsCreate(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "bpfLinkCreate", [&]() -> Napi::Value {
		const Args args(info[0], "link");
		const Target target = ReadTarget(args);
		auto program = std::make_shared<Fd>(
		    Duplicate(static_cast<int>(args.Number("program", 0, INT32_MAX)), "program for a link"));
		const uint32_t flags = args.Number("flags"), relative = args.Number("relative");
		return OnWorker<Opened>(
		    info.Env(),
		    [=] {
			    return WorkInNetns<Opened>(target.netns, [&] {
				    const Fd cgroup = target.Open();
				    LinkCreateAttr attr = {};
				    attr.program = static_cast<uint32_t>(program->get());
				    attr.target =
					cgroup ? static_cast<uint32_t>(cgroup.get()) : target.ifindex;
				    attr.attachType = target.attachType;
				    attr.flags = flags;
				    attr.relative = relative;
				    const std::string object = "attach to " + target.text();
				    Fd link(Bpf(BPF_LINK_CREATE, attr));
				    if (!link)
					    ThrowErrno("bpf", object);
				    return Opened(std::move(link), object);
			    });
		    },
		    [exports = ExportsOf(info)](Napi::Env env, Opened &opened) {
			    return ToLink(env, exports, opened);
		    });
	});
}

// bpfOpenPinnedLink(path): Promise<{link, info} | undefined>
Napi::Value JsOpenPinned(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "bpfOpenPinnedLink", [&]() -> Napi::Value {
		if (!info[0].IsString())
			throw BadArgument("path", "must be text");
		const std::string path = info[0].As<Napi::String>().Utf8Value();
		return OnWorker<Opened>(
		    info.Env(),
		    [path] {
			    const std::string object = "pinned link " + path;
			    Fd fd(bpf_obj_get(path.c_str()));
			    if (!fd) {
				    if (errno == ENOENT)
					    return Opened();
				    ThrowErrno("bpf", object);
			    }
			    char kind[64] = "";
			    const std::string self = "/proc/thread-self/fd/" + std::to_string(fd.get());
			    if (readlink(self.c_str(), kind, sizeof(kind) - 1) < 0)
				    ThrowErrno("readlink", object);
			    // Made by an attach, or opened again.
			    if (strcmp(kind, "anon_inode:bpf_link") != 0 &&
				strcmp(kind, "anon_inode:bpf-link") != 0) {
				    Failure failure;
				    failure.number = EINVAL;
				    failure.syscall = "bpf";
				    failure.object = object;
				    failure.text = std::string("it is no link but ") + kind;
				    throw KernelError(failure);
			    }
			    return Opened(std::move(fd), object);
		    },
		    [exports = ExportsOf(info)](Napi::Env env, Opened &opened) -> Napi::Value {
			    return opened.fd ? ToLink(env, exports, opened) : env.Undefined();
		    });
	});
}

// A program that is attached somewhere.
struct Attached {
	uint32_t program = 0;
	// 0: by no link.
	uint32_t link = 0;
	// XDP: where it runs.
	const char *mode = "";
	std::string name;
};

// The programs of a control group, or of a device by tcx, in the order in which they run.
std::vector<Attached> ListByQuery(const Target &target)
{
	const Fd cgroup = target.Open();
	const bool hasLinks = target.attachType == tcxIngress || target.attachType == tcxEgress;
	std::vector<uint32_t> programs(16), links(16);
	for (;;) {
		QueryAttr attr = {};
		attr.target = cgroup ? static_cast<uint32_t>(cgroup.get()) : target.ifindex;
		attr.attachType = target.attachType;
		attr.programIds = reinterpret_cast<uintptr_t>(programs.data());
		attr.count = static_cast<uint32_t>(programs.size());
		if (hasLinks)
			attr.linkIds = reinterpret_cast<uintptr_t>(links.data());
		if (Bpf(BPF_PROG_QUERY, attr) != 0) {
			// More came, or there is no room: as many as the kernel says, and some.
			if (errno != ENOSPC || programs.size() > 4096)
				ThrowErrno("bpf", "list of the programs of " + target.text());
			programs.resize(std::max<size_t>(attr.count, programs.size()) + 16);
			links.resize(programs.size());
			continue;
		}
		std::vector<Attached> found(std::min<size_t>(attr.count, programs.size()));
		for (size_t i = 0; i < found.size(); i++) {
			found[i].program = programs[i];
			found[i].link = hasLinks ? links[i] : 0;
		}
		return found;
	}
}

// A device's XDP programs, one for each place.
std::vector<Attached> ListXdp(const Target &target)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, options);
	const int result = bpf_xdp_query(static_cast<int>(target.ifindex), 0, &options);
	if (result != 0) {
		errno = -result;
		ThrowErrno("netlink", "list of the XDP programs of " + target.text());
	}
	std::vector<Attached> found;
	const auto add = [&](uint32_t program, const char *mode) {
		if (program != 0) {
			found.emplace_back();
			found.back().program = program;
			found.back().mode = mode;
		}
	};
	add(options.drv_prog_id, "native");
	add(options.skb_prog_id, "generic");
	add(options.hw_prog_id, "offload");
	return found;
}

void AddName(Attached &attached)
{
	const Fd program(bpf_prog_get_fd_by_id(attached.program));
	if (!program) {
		if (errno == ENOENT) // Gone meanwhile.
			return;
		ThrowErrno("bpf", "program " + std::to_string(attached.program));
	}
	bpf_prog_info info = {};
	uint32_t length = sizeof(info);
	if (bpf_obj_get_info_by_fd(program.get(), &info, &length) != 0)
		ThrowErrno("bpf", "program " + std::to_string(attached.program));
	attached.name.assign(info.name, strnlen(info.name, sizeof(info.name)));
}

// bpfAttached({attachType, ifindex | cgroup, netns?}): Promise<[{programId, linkId?, name, mode?}]>
Napi::Value JsAttached(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "bpfAttached", [&]() -> Napi::Value {
		const Target target = ReadTarget(Args(info[0], "attached"));
		using List = std::vector<Attached>;
		return OnWorker<List>(
		    info.Env(),
		    [target] {
			    return WorkInNetns<List>(target.netns, [&] {
				    List found =
					target.attachType == BPF_XDP ? ListXdp(target) : ListByQuery(target);
				    for (Attached &attached : found)
					    AddName(attached);
				    return found;
			    });
		    },
		    [](Napi::Env env, List &found) -> Napi::Value {
			    Napi::Array out = Napi::Array::New(env);
			    for (const Attached &attached : found) {
				    Napi::Object item = Napi::Object::New(env);
				    item.Set("programId", attached.program);
				    item.Set("name", attached.name);
				    if (attached.link != 0)
					    item.Set("linkId", attached.link);
				    if (*attached.mode)
					    item.Set("mode", attached.mode);
				    out.Set(out.Length(), item);
			    }
			    return out;
		    });
	});
}

} // namespace

void InitBpfLink(Napi::Env env, Napi::Object exports)
{
	BpfLink::Init(env, exports);
	exports.Set("bpfLinkCreate", Napi::Function::New(env, JsCreate, "bpfLinkCreate"));
	exports.Set("bpfOpenPinnedLink", Napi::Function::New(env, JsOpenPinned, "bpfOpenPinnedLink"));
	exports.Set("bpfAttached", Napi::Function::New(env, JsAttached, "bpfAttached"));
}

} // namespace tortie
