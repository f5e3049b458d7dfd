// Links: programs attached to devices (tcx, XDP) and control groups. All of it may
// wait for RTNL or a grace period: on a worker, in the device's namespace. libbpf 1.1 and the headers of 6.1
// don't know tcx, so the system call's structures stand here (linux/bpf.h of 6.6, union bpf_attr).
#include "bpf.h"
#include "bpf_target.h"
#include "own_thread.h"
#include "worker.h"
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
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

// linux/bpf.h of 6.6, enum bpf_link_type.
constexpr uint32_t linkTcx = 11;

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
		const BpfTarget target = ReadBpfTarget(args);
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

} // namespace

void InitBpfLink(Napi::Env env, Napi::Object exports)
{
	BpfLink::Init(env, exports);
	exports.Set("bpfLinkCreate", Napi::Function::New(env, JsCreate, "bpfLinkCreate"));
	exports.Set("bpfOpenPinnedLink", Napi::Function::New(env, JsOpenPinned, "bpfOpenPinnedLink"));
}

} // namespace tortie
