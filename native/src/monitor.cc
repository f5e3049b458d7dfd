#include "monitor.h"
#include "args.h"
#include "netns.h"
#include "objects.h"
#include <linux/rtnetlink.h>

namespace tortie
{

namespace
{

// Room for some ten thousand events while the process is busy. Beyond it the kernel drops events and says so.
constexpr int receiveBuffer = 8 << 20;
// For errors.
constexpr const char *object = "netlink monitor";

constexpr struct {
	const char *name;
	int group;
} groups[] = {{"link", RTNLGRP_LINK},
	      {"addr4", RTNLGRP_IPV4_IFADDR},
	      {"addr6", RTNLGRP_IPV6_IFADDR},
	      {"route4", RTNLGRP_IPV4_ROUTE},
	      {"route6", RTNLGRP_IPV6_ROUTE},
	      {"neigh", RTNLGRP_NEIGH},
	      {"tc", RTNLGRP_TC}};

std::vector<int> ReadGroups(Napi::Value value)
{
	if (!value.IsArray())
		throw BadArgument("groups", "must be an array, not " + Describe(value));
	const auto array = value.As<Napi::Array>();
	std::vector<int> numbers;
	for (uint32_t i = 0; i < array.Length(); i++) {
		const Napi::Value item = array.Get(i);
		const std::string name = item.IsString() ? item.As<Napi::String>().Utf8Value() : "";
		for (const auto &known : groups)
			if (name == known.name)
				numbers.push_back(known.group);
		if (numbers.size() != i + 1)
			throw BadArgument("groups",
					  Describe(item) +
					      " is none of link, addr4, addr6, route4, route6, neigh, tc");
	}
	return numbers;
}

using Decode = Napi::Value (*)(Napi::Env, const nlmsghdr *);

constexpr struct {
	uint16_t message;
	const char *type;
	const char *key;
	Decode decode;
} decoders[] = {
    {RTM_NEWLINK, "link.new", "link", DecodeLink},
    {RTM_DELLINK, "link.del", "link", DecodeLink},
    {RTM_NEWADDR, "addr.new", "address", DecodeAddress},
    {RTM_DELADDR, "addr.del", "address", DecodeAddress},
    {RTM_NEWROUTE, "route.new", "route", DecodeRoute},
    {RTM_DELROUTE, "route.del", "route", DecodeRoute},
    {RTM_NEWNEIGH, "neigh.new", "neighbour", DecodeNeighbour},
    {RTM_DELNEIGH, "neigh.del", "neighbour", DecodeNeighbour},
    {RTM_NEWTFILTER, "filter.new", "linkIndex", DecodeTcDevice},
    {RTM_DELTFILTER, "filter.del", "linkIndex", DecodeTcDevice},
    {RTM_NEWQDISC, "qdisc.new", "linkIndex", DecodeTcDevice},
    {RTM_DELQDISC, "qdisc.del", "linkIndex", DecodeTcDevice},
};

void AppendEvent(Napi::Env env, Napi::Array events, const nlmsghdr *message)
{
	for (const auto &decoder : decoders) {
		if (message->nlmsg_type != decoder.message)
			continue;
		const Napi::HandleScope scope(env);
		const Napi::Value value = decoder.decode(env, message);
		if (value.IsUndefined())
			return;
		Napi::Object event = Napi::Object::New(env);
		event.Set("type", decoder.type);
		event.Set(decoder.key, value);
		if (message->nlmsg_type == RTM_NEWQDISC || message->nlmsg_type == RTM_DELQDISC)
			event.Set("qdisc", DecodeQdisc(env, message));
		events.Set(events.Length(), event);
		return;
	}
}

void AppendOverrun(Napi::Env env, Napi::Array events)
{
	Napi::Object event = Napi::Object::New(env);
	event.Set("type", "overrun");
	events.Set(events.Length(), event);
}

} // namespace

Napi::Function MonitorSocket::Define(Napi::Env env)
{
	return DefineClass(env, "MonitorSocket",
			   {
			       InstanceMethod<&MonitorSocket::Wait>("wait"),
			       InstanceMethod<&MonitorSocket::Read>("read"),
			       InstanceMethod<&MonitorSocket::Close>("close"),
			   });
}

MonitorSocket::MonitorSocket(const Napi::CallbackInfo &info) : Napi::ObjectWrap<MonitorSocket>(info)
{
	Guarded(info.Env(), object, [&] {
		const auto numbers = ReadGroups(info[0]);
		const auto netns = NetnsFromValue(info[1], "netns");
		auto socket = InNetns(
		    netns, [&] { return OpenEventSocket(NETLINK_ROUTE, numbers, receiveBuffer, object); });
		reader_ = std::make_unique<EventReader>(info.Env(), std::move(socket), object);
	});
}

void MonitorSocket::Wait(const Napi::CallbackInfo &info)
{
	Guarded(info.Env(), object, [&] { reader_->Wait(info[0]); });
}

Napi::Value MonitorSocket::Read(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), object, [&]() -> Napi::Value {
		const Napi::Env env = info.Env();
		Napi::Array events = Napi::Array::New(env);
		if (reader_->Read([&](const nlmsghdr *message) { AppendEvent(env, events, message); }))
			AppendOverrun(env, events);
		return events;
	});
}

void MonitorSocket::Close(const Napi::CallbackInfo &)
{
	reader_->Close();
}

void InitMonitor(Napi::Env env, Napi::Object exports)
{
	exports.Set("MonitorSocket", MonitorSocket::Define(env));
}

} // namespace tortie
