#include "objects.h"
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>

namespace tortie
{

static const struct {
	const char *name;
	uint16_t state;
	bool settable;
} states[] = {{"incomplete", NUD_INCOMPLETE, false},
	      {"reachable", NUD_REACHABLE, true},
	      {"stale", NUD_STALE, true},
	      {"delay", NUD_DELAY, false},
	      {"probe", NUD_PROBE, false},
	      {"failed", NUD_FAILED, false},
	      {"noarp", NUD_NOARP, true},
	      {"permanent", NUD_PERMANENT, true}};

static uint16_t State(const Args &args)
{
	const auto text = args.OptionalString("state", 32);
	if (!text)
		return NUD_PERMANENT;
	for (const auto &entry : states)
		if (entry.settable && *text == entry.name)
			return entry.state;
	args.Fail("state", "'" + *text + "' is none of permanent, reachable, stale, noarp");
}

void EncodeNeighbour(const Args &args, Op &op)
{
	const bool del = op.object == "neigh.del";
	const IpAddress address = args.Address("address");
	const LinkRef link = args.Link("link");
	const bool proxy = args.Flag("proxy");
	op.object += (proxy ? " proxy " : " ") + AddressText(address.family, address.bytes.data()) + " dev " +
		     link.text();
	const auto mac = args.OptionalMac("mac");
	if (!mac && !proxy && !del)
		args.Fail("mac", "is missing");

	MessageWriter writer(del ? RTM_DELNEIGH : RTM_NEWNEIGH, del ? 0 : NLM_F_CREATE | NLM_F_REPLACE);
	auto *info = writer.Fixed<ndmsg>();
	info->ndm_family = static_cast<uint8_t>(address.family);
	info->ndm_state = State(args);
	if (proxy)
		info->ndm_flags = NTF_PROXY;
	writer.SetLink(&info->ndm_ifindex, link);
	writer.Put(NDA_DST, address.bytes.data(), address.size());
	if (mac && !proxy)
		writer.Put(NDA_LLADDR, mac->data(), mac->size());
	op.messages.push_back(writer.Finish());
}

Message DumpNeighbours(const DumpFilter &filter, bool proxy)
{
	MessageWriter writer(RTM_GETNEIGH, NLM_F_DUMP);
	auto *info = writer.Fixed<ndmsg>();
	info->ndm_family = static_cast<uint8_t>(filter.family.value_or(AF_UNSPEC));
	if (proxy)
		info->ndm_flags = NTF_PROXY;
	if (filter.link)
		writer.PutLink(NDA_IFINDEX, *filter.link);
	return writer.Finish();
}

Napi::Value DecodeNeighbour(Napi::Env env, const nlmsghdr *message)
{
	const auto *info = FixedHeader<ndmsg>(message);
	if (!info || (info->ndm_family != AF_INET && info->ndm_family != AF_INET6))
		return env.Undefined();
	const Attributes<NDA_MAX> attributes(message, sizeof(*info));
	const uint8_t *bytes = attributes.Bytes(NDA_DST, AddressSize(info->ndm_family));
	if (!bytes)
		return env.Undefined();
	Napi::Object neighbour = Napi::Object::New(env);
	neighbour.Set("family", Napi::Number::New(env, info->ndm_family == AF_INET ? 4 : 6));
	neighbour.Set("linkIndex", Napi::Number::New(env, info->ndm_ifindex));
	neighbour.Set("address", AddressText(info->ndm_family, bytes));
	if (const nlattr *mac = attributes[NDA_LLADDR]; mac && mnl_attr_get_payload_len(mac) > 0)
		neighbour.Set("mac", MacText(static_cast<const uint8_t *>(mnl_attr_get_payload(mac)),
					     mnl_attr_get_payload_len(mac)));
	const char *state = "none";
	for (const auto &entry : states)
		if (info->ndm_state == entry.state)
			state = entry.name;
	neighbour.Set("state", state);
	neighbour.Set("proxy", Napi::Boolean::New(env, info->ndm_flags & NTF_PROXY));
	return neighbour;
}

} // namespace tortie
