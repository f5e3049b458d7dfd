#include "monitor.h"
#include "args.h"
#include "netns.h"
#include "objects.h"
#include "readiness.h"
#include <cerrno>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

namespace tortie
{

namespace
{

// Datagrams per wake-up: some 100 us of decoding; then the event loop has its turn.
constexpr int datagramsPerRead = 64;
// Unread ones cost less.
constexpr int discardsPerRead = 1024;
// Room for some ten thousand events while the process is busy. Beyond it the kernel drops events and says so.
constexpr int receiveBuffer = 8 << 20;

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

std::shared_ptr<Socket> OpenMonitor(const std::vector<int> &numbers)
{
	auto socket = Socket::Open(NETLINK_ROUTE);
	// FORCE goes beyond net.core.rmem_max and needs CAP_NET_ADMIN.
	if (setsockopt(socket->fd(), SOL_SOCKET, SO_RCVBUFFORCE, &receiveBuffer, sizeof(receiveBuffer)) != 0)
		setsockopt(socket->fd(), SOL_SOCKET, SO_RCVBUF, &receiveBuffer, sizeof(receiveBuffer));
	for (const int number : numbers)
		if (setsockopt(socket->fd(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &number, sizeof(number)) !=
		    0)
			ThrowErrno("setsockopt", "netlink monitor group " + std::to_string(number));
	return socket;
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
	return DefineClass(
	    env, "MonitorSocket",
	    {
		InstanceMethod<&MonitorSocket::Wait>("wait"),
		InstanceMethod<&MonitorSocket::Read>("read"),
		InstanceMethod<static_cast<void (MonitorSocket::*)(const Napi::CallbackInfo &)>(
		    &MonitorSocket::Close)>("close"),
	    });
}

MonitorSocket::MonitorSocket(const Napi::CallbackInfo &info) : Napi::ObjectWrap<MonitorSocket>(info)
{
	Guarded(info.Env(), "netlink monitor", [&] {
		const auto numbers = ReadGroups(info[0]);
		const auto netns = NetnsFromValue(info[1], "netns");
		auto socket = InNetns(netns, [&] { return OpenMonitor(numbers); });
		readiness_ = new Readiness(info.Env(), std::move(socket));
	});
}

MonitorSocket::~MonitorSocket()
{
	Close();
}

void MonitorSocket::Wait(const Napi::CallbackInfo &info)
{
	Guarded(info.Env(), "netlink monitor", [&] {
		if (!info[0].IsFunction())
			throw BadArgument("callback", "must be a function");
		if (readiness_)
			readiness_->Wait(info[0].As<Napi::Function>());
	});
}

// False while there is more to throw away.
bool MonitorSocket::Discard()
{
	for (int i = 0; i < discardsPerRead; i++) {
		try {
			if (!readiness_->socket().Receive([](const nlmsghdr *) {}, "netlink monitor"))
				return true;
		} catch (const KernelError &error) {
			if (error.failure.number != ENOBUFS)
				throw;
		}
	}
	return false;
}

Napi::Value MonitorSocket::Read(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "netlink monitor", [&]() -> Napi::Value {
		const Napi::Env env = info.Env();
		Napi::Array events = Napi::Array::New(env);
		if (!readiness_)
			return events;
		try {
			for (int i = 0; !overrun_ && i < datagramsPerRead; i++)
				if (!readiness_->socket().Receive(
					[&](const nlmsghdr *message) { AppendEvent(env, events, message); },
					"netlink monitor"))
					return events;
		} catch (const KernelError &error) {
			if (error.failure.number != ENOBUFS)
				throw;
			overrun_ = true;
		}
		// From an overrun on the kernel drops everything, and doesn't say so again, until the backlog
		// is read. Only then is it reported: whoever compares everything after that misses nothing.
		if (overrun_ && Discard()) {
			overrun_ = false;
			AppendOverrun(env, events);
		}
		return events;
	});
}

void MonitorSocket::Close()
{
	if (readiness_)
		std::exchange(readiness_, nullptr)->Close();
}

void MonitorSocket::Close(const Napi::CallbackInfo &)
{
	Close();
}

void InitMonitor(Napi::Env env, Napi::Object exports)
{
	exports.Set("MonitorSocket", MonitorSocket::Define(env));
}

} // namespace tortie
