// Who is attached to a device or a control group, by name: others' programs, too. On a worker, in the
// device's namespace.
#include "bpf.h"
#include "bpf_target.h"
#include "own_thread.h"
#include "worker.h"
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>

namespace tortie
{

std::string BpfTarget::text() const
{
	if (!cgroup.empty())
		return "cgroup " + cgroup;
	return "device " + std::to_string(ifindex) + (netns ? " of netns " + *netns : "");
}

Fd BpfTarget::Open() const
{
	if (cgroup.empty())
		return {};
	Fd fd(open(cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (!fd)
		ThrowErrno("open", text());
	return fd;
}

BpfTarget ReadBpfTarget(const Args &args)
{
	BpfTarget target;
	target.attachType = args.Number("attachType", 0, 1000);
	if (args.Has("cgroup"))
		target.cgroup = args.String("cgroup");
	else
		target.ifindex = args.Number("ifindex", 1, INT32_MAX);
	target.netns = args.OptionalNetns("netns");
	return target;
}

namespace
{

// linux/bpf.h of 6.6, enum bpf_attach_type.
constexpr uint32_t tcxIngress = 46, tcxEgress = 47;

// Its union bpf_attr, for BPF_PROG_QUERY.
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
std::vector<Attached> ListByQuery(const BpfTarget &target)
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
std::vector<Attached> ListXdp(const BpfTarget &target)
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
		const BpfTarget target = ReadBpfTarget(Args(info[0], "attached"));
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

// A device's tcx programs, by id.
struct TcxPrograms {
	uint32_t ifindex;
	std::vector<uint32_t> ingress, egress;
};

// Of these devices those that have some. A device that is gone has none, and so has every one of a kernel
// without tcx.
std::vector<TcxPrograms> ListTcx(const std::vector<uint32_t> &ifindexes)
{
	std::vector<TcxPrograms> all;
	const auto idsOf = [](uint32_t ifindex, uint32_t attachType) {
		BpfTarget target;
		target.ifindex = ifindex;
		target.attachType = attachType;
		std::vector<uint32_t> ids;
		for (const Attached &attached : ListByQuery(target))
			ids.push_back(attached.program);
		return ids;
	};
	for (const uint32_t ifindex : ifindexes) {
		try {
			TcxPrograms found = {ifindex, idsOf(ifindex, tcxIngress), idsOf(ifindex, tcxEgress)};
			if (!found.ingress.empty() || !found.egress.empty())
				all.push_back(std::move(found));
		} catch (const KernelError &error) {
			if (error.failure.number == EINVAL)
				return {};
			if (error.failure.number != ENODEV)
				throw;
		}
	}
	return all;
}

Napi::Array ToArray(Napi::Env env, const std::vector<uint32_t> &ids)
{
	Napi::Array out = Napi::Array::New(env);
	for (const uint32_t id : ids)
		out.Set(out.Length(), id);
	return out;
}

// bpfTcxPrograms({ifindexes, netns?}): Promise<[{ifindex, ingress: [id], egress: [id]}]>
Napi::Value JsTcxPrograms(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "bpfTcxPrograms", [&]() -> Napi::Value {
		const Args args(info[0], "devices");
		const std::optional<std::string> netns = args.OptionalNetns("netns");
		std::vector<uint32_t> ifindexes;
		const Napi::Array list = args.Array("ifindexes");
		for (uint32_t i = 0; i < list.Length(); i++)
			ifindexes.push_back(list.Get(i).ToNumber().Uint32Value());
		using List = std::vector<TcxPrograms>;
		return OnWorker<List>(
		    info.Env(),
		    [netns, ifindexes] {
			    return WorkInNetns<List>(netns, [&] { return ListTcx(ifindexes); });
		    },
		    [](Napi::Env env, List &found) -> Napi::Value {
			    Napi::Array out = Napi::Array::New(env);
			    for (const TcxPrograms &each : found) {
				    Napi::Object item = Napi::Object::New(env);
				    item.Set("ifindex", each.ifindex);
				    item.Set("ingress", ToArray(env, each.ingress));
				    item.Set("egress", ToArray(env, each.egress));
				    out.Set(out.Length(), item);
			    }
			    return out;
		    });
	});
}

} // namespace

void InitBpfAttached(Napi::Env env, Napi::Object exports)
{
	exports.Set("bpfTcxPrograms", Napi::Function::New(env, JsTcxPrograms, "bpfTcxPrograms"));
	exports.Set("bpfAttached", Napi::Function::New(env, JsAttached, "bpfAttached"));
}

} // namespace tortie
