#include "conntrack.h"
#include "args.h"
#include "conntrack_objects.h"
#include "conntrack_requests.h"
#include "netns.h"
#include "worker.h"
#include <linux/netlink.h>

namespace tortie
{

static std::vector<IpAddress> ReadAddresses(Napi::Value value)
{
	if (!value.IsArray())
		throw BadArgument("addresses", "must be an array, not " + Describe(value));
	const auto array = value.As<Napi::Array>();
	std::vector<IpAddress> addresses;
	for (uint32_t i = 0; i < array.Length(); i++) {
		const Napi::Value item = array.Get(i);
		const auto address =
		    item.IsString() ? ParseAddress(item.As<Napi::String>().Utf8Value()) : std::nullopt;
		if (!address)
			throw BadArgument("addresses", Describe(item) + " is not an address");
		addresses.push_back(*address);
	}
	return addresses;
}

Napi::Function ConntrackSocket::Define(Napi::Env env)
{
	return DefineClass(env, "ConntrackSocket",
			   {
			       InstanceMethod<&ConntrackSocket::DeleteOf>("deleteOf"),
			       InstanceMethod<&ConntrackSocket::Close>("close"),
			   });
}

ConntrackSocket::ConntrackSocket(const Napi::CallbackInfo &info) : Napi::ObjectWrap<ConntrackSocket>(info)
{
	Guarded(info.Env(), "conntrack socket", [&] {
		const auto netns = NetnsFromValue(info[0], "netns");
		socket_ = InNetns(netns, [] { return Socket::Open(NETLINK_NETFILTER); });
	});
}

Napi::Value ConntrackSocket::DeleteOf(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "conntrack.delete", [&]() -> Napi::Value {
		const auto &socket = OpenOrThrow(socket_, "conntrack socket");
		return OnWorker<uint32_t>(
		    info.Env(),
		    [socket, addresses = ReadAddresses(info[0])] {
			    return DeleteEntriesOf(*socket, addresses);
		    },
		    [](Napi::Env env, uint32_t &deleted) { return Napi::Number::New(env, deleted); });
	});
}

void ConntrackSocket::Close(const Napi::CallbackInfo &)
{
	socket_.reset();
}

void InitConntrack(Napi::Env env, Napi::Object exports)
{
	exports.Set("ConntrackSocket", ConntrackSocket::Define(env));
	InitConntrackWriter(env, exports);
	InitConntrackDump(env, exports);
	InitConntrackEvents(env, exports);
	InitNatProof(env, exports);
}

} // namespace tortie
