#include "objects.h"
#include <cstring>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

namespace tortie
{

struct Named {
	const char *name;
	uint8_t value;
};

static constexpr Named types[] = {{"unicast", RTN_UNICAST},
				  {"local", RTN_LOCAL},
				  {"broadcast", RTN_BROADCAST},
				  {"anycast", RTN_ANYCAST},
				  {"multicast", RTN_MULTICAST},
				  {"blackhole", RTN_BLACKHOLE},
				  {"unreachable", RTN_UNREACHABLE},
				  {"prohibit", RTN_PROHIBIT},
				  {"throw", RTN_THROW},
				  {"nat", RTN_NAT}};

static constexpr Named settableTypes[] = {{"unicast", RTN_UNICAST},
					  {"blackhole", RTN_BLACKHOLE},
					  {"unreachable", RTN_UNREACHABLE},
					  {"prohibit", RTN_PROHIBIT},
					  {"throw", RTN_THROW}};

static constexpr Named scopes[] = {
    {"global", RT_SCOPE_UNIVERSE}, {"link", RT_SCOPE_LINK}, {"host", RT_SCOPE_HOST}};

template <size_t Count>
static std::optional<uint8_t> OptionalNamed(const Args &args, const char *name, const Named (&table)[Count])
{
	const auto text = args.OptionalString(name, 32);
	if (!text)
		return std::nullopt;
	std::string known;
	for (const Named &entry : table) {
		if (*text == entry.name)
			return entry.value;
		known += (known.empty() ? "" : ", ") + std::string(entry.name);
	}
	args.Fail(name, "'" + *text + "' is none of " + known);
}

const char *ScopeName(uint8_t scope)
{
	switch (scope) {
	case RT_SCOPE_SITE:
		return "site";
	case RT_SCOPE_LINK:
		return "link";
	case RT_SCOPE_HOST:
		return "host";
	case RT_SCOPE_NOWHERE:
		return "nowhere";
	default:
		return "global";
	}
}

static IpAddress Destination(const Args &args)
{
	const auto family = args.OptionalFamily("family");
	if (args.String("dst") != "default") {
		const IpAddress dst = args.Cidr("dst");
		if (family && *family != dst.family)
			args.Fail("family", "is not that of dst");
		return dst;
	}
	if (!family)
		args.Fail("family", "is missing: `default` is a destination of both");
	IpAddress dst;
	dst.family = *family;
	return dst;
}

// As iproute2 chooses it: a device alone reaches neighbours; IPv6 has no scopes.
static uint8_t DefaultScope(bool del, int family, uint8_t type, bool gateway)
{
	if (del)
		return RT_SCOPE_NOWHERE;
	if (family == AF_INET && type == RTN_UNICAST && !gateway)
		return RT_SCOPE_LINK;
	return RT_SCOPE_UNIVERSE;
}

static void PutGateway(MessageWriter &writer, int family, const IpAddress &via)
{
	if (via.family == family) {
		writer.Put(RTA_GATEWAY, via.bytes.data(), via.size());
		return;
	}
	// An IPv4 route by way of an IPv6 neighbour (RFC 8950).
	uint8_t bytes[sizeof(rtvia) + 16];
	reinterpret_cast<rtvia *>(bytes)->rtvia_family = static_cast<uint16_t>(via.family);
	memcpy(bytes + sizeof(rtvia), via.bytes.data(), via.size());
	writer.Put(RTA_VIA, bytes, sizeof(rtvia) + via.size());
}

void EncodeRoute(const Args &args, Op &op)
{
	const bool add = op.object == "route.add";
	const bool del = op.object == "route.del";
	const IpAddress dst = Destination(args);
	op.object += " " + CidrText(dst.family, dst.bytes.data(), dst.prefix);
	const auto link = args.OptionalLink("link");
	const auto table = args.OptionalNumber("table", 1);
	const auto type = OptionalNamed(args, "type", settableTypes);
	std::optional<IpAddress> via;
	if (args.Has("via"))
		via = args.Address("via");
	if (type && *type != RTN_UNICAST)
		op.object += " " + args.String("type");
	if (via)
		op.object += " via " + AddressText(via->family, via->bytes.data());
	if (link)
		op.object += " dev " + link->text();
	if (table && *table != RT_TABLE_MAIN)
		op.object += " table " + std::to_string(*table);
	if (via && via->family != dst.family && dst.family != AF_INET)
		args.Fail("via", "an IPv6 route can't have an IPv4 gateway");

	MessageWriter writer(del ? RTM_DELROUTE : RTM_NEWROUTE, del   ? 0
								: add ? NLM_F_CREATE | NLM_F_EXCL
								      : NLM_F_CREATE | NLM_F_REPLACE);
	auto *route = writer.Fixed<rtmsg>();
	route->rtm_family = static_cast<uint8_t>(dst.family);
	route->rtm_dst_len = dst.prefix;
	// In a deletion, what isn't said matches anything.
	route->rtm_protocol = static_cast<uint8_t>(
	    args.OptionalNumber("protocol", 1, 255).value_or(del ? RTPROT_UNSPEC : RTPROT_STATIC));
	route->rtm_type = type.value_or(del ? RTN_UNSPEC : RTN_UNICAST);
	route->rtm_scope = OptionalNamed(args, "scope", scopes)
			       .value_or(DefaultScope(del, dst.family, route->rtm_type, via.has_value()));
	if (args.Flag("onlink"))
		route->rtm_flags |= RTNH_F_ONLINK;
	const uint32_t tableNumber = table.value_or(RT_TABLE_MAIN);
	route->rtm_table =
	    tableNumber < 256 ? static_cast<uint8_t>(tableNumber) : static_cast<uint8_t>(RT_TABLE_UNSPEC);
	writer.PutU32(RTA_TABLE, tableNumber);
	writer.Put(RTA_DST, dst.bytes.data(), dst.size());
	if (link)
		writer.PutLink(RTA_OIF, *link);
	if (via)
		PutGateway(writer, dst.family, *via);
	if (const auto metric = args.OptionalNumber("metric"))
		writer.PutU32(RTA_PRIORITY, *metric);
	if (args.Has("src")) {
		const IpAddress src = args.Address("src");
		if (src.family != dst.family)
			args.Fail("src", "is not of the family of dst");
		writer.Put(RTA_PREFSRC, src.bytes.data(), src.size());
	}
	op.messages.push_back(writer.Finish());
}

Message DumpRoutes(const DumpFilter &filter, int family)
{
	MessageWriter writer(RTM_GETROUTE, NLM_F_DUMP);
	auto *route = writer.Fixed<rtmsg>();
	route->rtm_family = static_cast<uint8_t>(family);
	if (filter.protocol)
		route->rtm_protocol = static_cast<uint8_t>(*filter.protocol);
	if (filter.table)
		writer.PutU32(RTA_TABLE, *filter.table);
	if (filter.link)
		writer.PutLink(RTA_OIF, *filter.link);
	return writer.Finish();
}

static std::optional<std::string> GatewayText(const Attributes<RTA_MAX> &attributes, int family)
{
	if (const uint8_t *bytes = attributes.Bytes(RTA_GATEWAY, AddressSize(family)))
		return AddressText(family, bytes);
	const uint8_t *via = attributes.Bytes(RTA_VIA, sizeof(rtvia));
	if (!via)
		return std::nullopt;
	const int viaFamily = reinterpret_cast<const rtvia *>(via)->rtvia_family;
	if ((viaFamily != AF_INET && viaFamily != AF_INET6) ||
	    !attributes.Bytes(RTA_VIA, sizeof(rtvia) + AddressSize(viaFamily)))
		return std::nullopt;
	return AddressText(viaFamily, via + sizeof(rtvia));
}

Napi::Value DecodeRoute(Napi::Env env, const nlmsghdr *message)
{
	const auto *info = FixedHeader<rtmsg>(message);
	if (!info || (info->rtm_family != AF_INET && info->rtm_family != AF_INET6) ||
	    (info->rtm_flags & RTM_F_CLONED))
		return env.Undefined();
	const Attributes<RTA_MAX> attributes(message, sizeof(*info));
	const size_t size = AddressSize(info->rtm_family);
	static const uint8_t unspecified[16] = {};
	const uint8_t *dst = attributes.Bytes(RTA_DST, size);
	Napi::Object route = Napi::Object::New(env);
	route.Set("family", Napi::Number::New(env, info->rtm_family == AF_INET ? 4 : 6));
	route.Set("dst", CidrText(info->rtm_family, dst ? dst : unspecified, info->rtm_dst_len));
	route.Set("table", Napi::Number::New(env, attributes.U32(RTA_TABLE).value_or(info->rtm_table)));
	route.Set("protocol", Napi::Number::New(env, info->rtm_protocol));
	route.Set("scope", ScopeName(info->rtm_scope));
	std::string type = std::to_string(info->rtm_type);
	for (const Named &known : types)
		if (known.value == info->rtm_type)
			type = known.name;
	route.Set("type", type);
	if (const auto link = attributes.U32(RTA_OIF))
		route.Set("linkIndex", Napi::Number::New(env, *link));
	if (const auto via = GatewayText(attributes, info->rtm_family))
		route.Set("via", *via);
	route.Set("onlink", Napi::Boolean::New(env, info->rtm_flags & RTNH_F_ONLINK));
	if (const auto metric = attributes.U32(RTA_PRIORITY))
		route.Set("metric", Napi::Number::New(env, *metric));
	if (const uint8_t *src = attributes.Bytes(RTA_PREFSRC, size))
		route.Set("src", AddressText(info->rtm_family, src));
	route.Set("multipath", Napi::Boolean::New(env, attributes[RTA_MULTIPATH] != nullptr));
	return route;
}

} // namespace tortie
