// RouteSocket: what JavaScript holds of a namespace's rtnetlink.
#include "route_socket.h"
#include "args.h"
#include "batch.h"
#include "netns.h"
#include "objects.h"
#include "worker.h"
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <utility>

namespace tortie
{

namespace
{

// The messages of one request, and the family that it asked for (0: any).
struct DumpedMessages {
	uint8_t family;
	std::vector<uint8_t> bytes;
};
using Dumped = std::vector<DumpedMessages>;

// All families' headers begin with it.
uint8_t FamilyOf(const nlmsghdr *message)
{
	const auto *family = FixedHeader<uint8_t>(message);
	return family ? *family : 0;
}

// One kind of dump: its requests, and what its messages become.
struct DumpPlan {
	std::string object;
	std::vector<Message> requests;
	// Filters once more, for kernels that ignore filters in requests.
	std::function<Napi::Value(Napi::Env, const nlmsghdr *, uint32_t linkIndex)> decode;
	std::optional<LinkRef> link;
	// errno of a filter that matches nothing.
	int emptyError = 0;
};

DumpFilter ReadFilter(Napi::Value value)
{
	DumpFilter filter;
	if (value.IsUndefined())
		return filter;
	const Args args(value, "filter");
	filter.family = args.OptionalFamily("family");
	filter.table = args.OptionalNumber("table", 1);
	filter.protocol = args.OptionalNumber("protocol", 1, 255);
	filter.link = args.OptionalLink("link");
	filter.proxy = args.OptionalFlag("proxy");
	if (args.Has("direction")) {
		const std::string direction = args.String("direction", 32);
		if (direction != "ingress" && direction != "egress")
			args.Fail("direction", "'" + direction + "' is neither ingress nor egress");
		filter.egress = direction == "egress";
	}
	return filter;
}

// Each family by itself: a dump of "any" also asks multicast routing and MPLS. A kernel without the family
// answers for all others.
std::vector<int> Families(const DumpFilter &filter)
{
	if (filter.family)
		return {*filter.family};
	return {AF_INET, AF_INET6};
}

template <typename Header, typename Matches>
auto Matching(Napi::Value (*decode)(Napi::Env, const nlmsghdr *), uint16_t type, Matches matches)
{
	return [=](Napi::Env env, const nlmsghdr *message, uint32_t linkIndex) -> Napi::Value {
		const auto *header = FixedHeader<Header>(message);
		if (message->nlmsg_type != type || !header || !matches(message, *header, linkIndex))
			return env.Undefined();
		return decode(env, message);
	};
}

DumpPlan PlanAddresses(const DumpFilter &filter)
{
	DumpPlan plan;
	plan.object = "addr.dump";
	for (const int family : Families(filter))
		plan.requests.push_back(DumpAddresses(filter, family));
	plan.decode = Matching<ifaddrmsg>(DecodeAddress, RTM_NEWADDR,
					  [](const nlmsghdr *, const ifaddrmsg &info, uint32_t linkIndex) {
						  return linkIndex == 0 || info.ifa_index == linkIndex;
					  });
	return plan;
}

DumpPlan PlanRoutes(const DumpFilter &filter)
{
	DumpPlan plan;
	plan.object = "route.dump";
	plan.emptyError = ENOENT; // No such table.
	for (const int family : Families(filter))
		plan.requests.push_back(DumpRoutes(filter, family));
	plan.decode =
	    Matching<rtmsg>(DecodeRoute, RTM_NEWROUTE,
			    [filter](const nlmsghdr *message, const rtmsg &info, uint32_t linkIndex) {
				    const Attributes<RTA_MAX> attributes(message, sizeof(info));
				    return (!filter.table || attributes.U32(RTA_TABLE).value_or(
								 info.rtm_table) == *filter.table) &&
					   (!filter.protocol || info.rtm_protocol == *filter.protocol) &&
					   (linkIndex == 0 || attributes.U32(RTA_OIF) == linkIndex);
			    });
	return plan;
}

DumpPlan PlanNeighbours(const DumpFilter &filter)
{
	DumpPlan plan;
	plan.object = "neigh.dump";
	for (const bool proxy : {false, true})
		if (filter.proxy.value_or(proxy) == proxy)
			plan.requests.push_back(DumpNeighbours(filter, proxy));
	plan.decode = Matching<ndmsg>(
	    DecodeNeighbour, RTM_NEWNEIGH, [filter](const nlmsghdr *, const ndmsg &info, uint32_t linkIndex) {
		    return (!filter.family || info.ndm_family == *filter.family) &&
			   (linkIndex == 0 || static_cast<uint32_t>(info.ndm_ifindex) == linkIndex);
	    });
	return plan;
}

DumpPlan PlanDump(const std::string &kind, const DumpFilter &filter)
{
	DumpPlan plan;
	if (kind == "links") {
		plan.object = "link.dump";
		plan.requests.push_back(DumpLinks());
		plan.decode = [](Napi::Env env, const nlmsghdr *message, uint32_t) -> Napi::Value {
			return message->nlmsg_type == RTM_NEWLINK ? DecodeLink(env, message)
								  : env.Undefined();
		};
	} else if (kind == "addresses") {
		plan = PlanAddresses(filter);
	} else if (kind == "routes") {
		plan = PlanRoutes(filter);
	} else if (kind == "neighbours") {
		plan = PlanNeighbours(filter);
	} else if (kind == "filters" && filter.link) {
		plan.object = "filter.dump";
		plan.requests.push_back(DumpFilters(filter));
		plan.decode = [](Napi::Env env, const nlmsghdr *message, uint32_t) -> Napi::Value {
			return message->nlmsg_type == RTM_NEWTFILTER ? DecodeFilter(env, message)
								     : env.Undefined();
		};
	} else if (kind == "qdiscs") {
		plan.object = "qdisc.dump";
		plan.requests.push_back(DumpQdiscs());
		plan.decode = [](Napi::Env env, const nlmsghdr *message, uint32_t) -> Napi::Value {
			return message->nlmsg_type == RTM_NEWQDISC ? DecodeQdisc(env, message)
								   : env.Undefined();
		};
	} else if (kind == "clsact" && filter.link) {
		plan.object = "qdisc.dump";
		plan.requests.push_back(DumpQdiscs());
		plan.decode = [](Napi::Env env, const nlmsghdr *message, uint32_t linkIndex) -> Napi::Value {
			if (message->nlmsg_type != RTM_NEWQDISC || !IsClsact(message, linkIndex))
				return env.Undefined();
			return Napi::Boolean::New(env, true);
		};
	} else {
		throw BadArgument("kind", "'" + kind + "' is no dump, or needs a link");
	}
	plan.link = filter.link;
	if (plan.link)
		plan.object += " dev " + plan.link->text();
	return plan;
}

} // namespace

Napi::Function RouteSocket::Define(Napi::Env env)
{
	return DefineClass(env, "RouteSocket",
			   {
			       InstanceMethod<&RouteSocket::Prepare>("prepare"),
			       InstanceMethod<&RouteSocket::SendSync>("sendSync"),
			       InstanceMethod<&RouteSocket::Send>("send"),
			       InstanceMethod<&RouteSocket::Link>("link"),
			       InstanceMethod<&RouteSocket::Dump>("dump"),
			       InstanceMethod<&RouteSocket::DumpSync>("dumpSync"),
			       InstanceMethod<&RouteSocket::Close>("close"),
			   });
}

RouteSocket::RouteSocket(const Napi::CallbackInfo &info) : Napi::ObjectWrap<RouteSocket>(info)
{
	Guarded(info.Env(), "netlink socket", [&] {
		const auto netns = NetnsFromValue(info[0], "netns");
		std::vector<SysctlWrite> sysctls;
		if (!info[1].IsUndefined())
			sysctls = ReadSysctls(info[1]);
		InNetns(netns, [&] {
			WriteSysctls(sysctls);
			sync_ = Socket::Open(NETLINK_ROUTE);
			worker_ = Socket::Open(NETLINK_ROUTE);
		});
		info.This().As<Napi::Object>().Set("sysctls", SysctlResults(info.Env(), sysctls));
	});
}

const std::shared_ptr<Socket> &RouteSocket::Open(const std::shared_ptr<Socket> &socket) const
{
	if (socket)
		return socket;
	Failure failure;
	failure.number = EBADF;
	failure.syscall = "sendmsg";
	failure.object = "netlink socket";
	failure.text = "it is closed";
	throw KernelError(failure);
}

Napi::Value RouteSocket::Prepare(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "batch", [&]() -> Napi::Value {
		Open(sync_);
		auto *batch = new std::shared_ptr<Batch>(std::make_shared<Batch>(info[0]));
		return Napi::External<std::shared_ptr<Batch>>::New(
		    info.Env(), batch, [](Napi::BasicEnv, std::shared_ptr<Batch> *gone) { delete gone; });
	});
}

static std::shared_ptr<Batch> PreparedBatch(Napi::Value value)
{
	if (!value.IsExternal())
		throw BadArgument("batch", "must come from prepare");
	return *value.As<Napi::External<std::shared_ptr<Batch>>>().Data();
}

Napi::Value RouteSocket::SendSync(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "batch", [&]() -> Napi::Value {
		const auto batch = PreparedBatch(info[0]);
		batch->Run(*Open(sync_));
		return batch->Results(info.Env());
	});
}

Napi::Value RouteSocket::Send(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "batch", [&]() -> Napi::Value {
		const auto batch = PreparedBatch(info[0]);
		const auto socket = Open(worker_);
		return OnWorker<bool>(
		    info.Env(),
		    [batch, socket] {
			    batch->Run(*socket);
			    return true;
		    },
		    [batch](Napi::Env env, bool &) -> Napi::Value { return batch->Results(env); });
	});
}

Napi::Value RouteSocket::Link(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "link.get", [&]() -> Napi::Value {
		const LinkRef link = LinkFromValue(info[0], "link");
		std::vector<uint8_t> reply;
		try {
			reply = Open(sync_)->Get(GetLinkRequest(link), "link.get " + link.text());
		} catch (const KernelError &error) {
			if (error.failure.number != ENODEV)
				throw;
		}
		if (reply.empty())
			return info.Env().Undefined();
		return DecodeLink(info.Env(), reinterpret_cast<const nlmsghdr *>(reply.data()));
	});
}

static Napi::Array DecodeDump(Napi::Env env, const DumpPlan &plan, const Dumped &dumped, uint32_t linkIndex)
{
	Napi::Array array = Napi::Array::New(env);
	uint32_t count = 0;
	for (const auto &[family, bytes] : dumped) {
		int rest = static_cast<int>(bytes.size());
		for (const auto *message = reinterpret_cast<const nlmsghdr *>(bytes.data());
		     mnl_nlmsg_ok(message, rest); message = mnl_nlmsg_next(message, &rest)) {
			if (family && FamilyOf(message) != family)
				continue;
			Napi::HandleScope scope(env);
			const Napi::Value value = plan.decode(env, message, linkIndex);
			if (!value.IsUndefined())
				array.Set(count++, value);
		}
	}
	return array;
}

// What was dumped, and the number of the link that was asked about.
using DumpAnswer = std::pair<Dumped, uint32_t>;

static DumpAnswer RunDump(DumpPlan &plan, Socket &socket)
{
	DumpAnswer answer;
	if (plan.link)
		answer.second = plan.link->index;
	if (plan.link && !plan.link->name.empty()) {
		answer.second = socket.IndexOf(plan.link->name);
		if (answer.second == 0) {
			Failure failure;
			failure.number = ENODEV;
			failure.syscall = "sendmsg";
			failure.object = plan.object;
			throw KernelError(failure);
		}
	}
	for (Message &request : plan.requests) {
		try {
			answer.first.push_back(
			    {FamilyOf(request.header()), socket.Dump(request, plan.object)});
		} catch (const KernelError &error) {
			if (!plan.emptyError || error.failure.number != plan.emptyError)
				throw;
		}
	}
	return answer;
}

static DumpPlan ReadPlan(const Napi::CallbackInfo &info)
{
	if (!info[0].IsString())
		throw BadArgument("kind", "must be text");
	return PlanDump(info[0].As<Napi::String>().Utf8Value(), ReadFilter(info[1]));
}

Napi::Value RouteSocket::DumpSync(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "dump", [&]() -> Napi::Value {
		DumpPlan plan = ReadPlan(info);
		const DumpAnswer answer = RunDump(plan, *Open(sync_));
		return DecodeDump(info.Env(), plan, answer.first, answer.second);
	});
}

Napi::Value RouteSocket::Dump(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "dump", [&]() -> Napi::Value {
		const auto plan = std::make_shared<DumpPlan>(ReadPlan(info));
		const auto socket = Open(worker_);
		return OnWorker<DumpAnswer>(
		    info.Env(), [plan, socket] { return RunDump(*plan, *socket); },
		    [plan](Napi::Env env, DumpAnswer &answer) -> Napi::Value {
			    return DecodeDump(env, *plan, answer.first, answer.second);
		    });
	});
}

// Work under way holds the sockets until it is done.
void RouteSocket::Close(const Napi::CallbackInfo &)
{
	sync_.reset();
	worker_.reset();
}

void InitRouteSocket(Napi::Env env, Napi::Object exports)
{
	exports.Set("RouteSocket", RouteSocket::Define(env));
}

} // namespace tortie
