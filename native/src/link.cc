#include "netns.h"
#include "objects.h"
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <linux/if.h>

namespace tortie
{

// The highest MTU that the kernel has (veth: ETH_MAX_MTU), and the limit of queues of a device (netdev's u32,
// bounded to what is sane).
static constexpr uint32_t maxMtu = 65535;
static constexpr uint32_t maxQueues = 4096;
// IFALIASZ without the terminating NUL.
static constexpr size_t maxAlias = 255;

static void PutNetns(MessageWriter &writer, Op &op, const std::optional<std::string> &path)
{
	if (!path)
		return;
	op.fds.push_back(OpenNetns(*path));
	writer.PutU32(IFLA_NET_NS_FD, static_cast<uint32_t>(op.fds.back().get()));
}

static void PutUp(ifinfomsg *info, std::optional<bool> up)
{
	if (!up)
		return;
	info->ifi_change = IFF_UP;
	info->ifi_flags = *up ? IFF_UP : 0;
}

// What both ends of a veth have; the fixed header comes before.
static void PutEnd(MessageWriter &writer, Op &op, const Args &end)
{
	writer.PutString(IFLA_IFNAME, end.DeviceName("name"));
	if (const auto mac = end.OptionalMac("mac"))
		writer.Put(IFLA_ADDRESS, mac->data(), mac->size());
	if (const auto mtu = end.OptionalNumber("mtu", 1, maxMtu))
		writer.PutU32(IFLA_MTU, *mtu);
	if (const auto queues = end.OptionalNumber("queues", 1, maxQueues)) {
		writer.PutU32(IFLA_NUM_TX_QUEUES, *queues);
		writer.PutU32(IFLA_NUM_RX_QUEUES, *queues);
	}
	PutNetns(writer, op, end.OptionalNetns("netns"));
}

// What is set after a device of the socket's namespace was made.
static Message FollowUp(const std::string &name, bool up, const std::optional<std::string> &alias)
{
	MessageWriter writer(RTM_SETLINK, 0);
	auto *info = writer.Fixed<ifinfomsg>();
	if (up)
		PutUp(info, true);
	writer.PutString(IFLA_IFNAME, name);
	if (alias)
		writer.Put(IFLA_IFALIAS, alias->data(), alias->size());
	return writer.Finish();
}

// The kernel makes the nested end first and can't bring that one up yet (veth_open without peer: ENOTCONN).
// So the end that shall be up is the outer one, and if it is both, the one in the socket's namespace is
// brought up afterwards.
void EncodeVethAdd(const Args &args, Op &op)
{
	const std::string name = args.DeviceName("name");
	op.object += " " + name;
	const Args peer = args.Object("peer");
	op.object += " peer " + peer.DeviceName("name");
	op.changesNames = true;
	const bool bothUp = args.Flag("up") && peer.Flag("up");
	const auto alias = args.OptionalString("alias", maxAlias);
	if (alias && args.Has("netns"))
		args.Fail("alias", "only for an end in the socket's own namespace");
	if (bothUp && args.Has("netns"))
		args.Fail("up", "of two ends only one can be brought up outside the socket's own namespace");
	const Args &outer = peer.Flag("up") ? peer : args;
	const Args &nested = peer.Flag("up") ? args : peer;

	MessageWriter writer(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
	PutUp(writer.Fixed<ifinfomsg>(), outer.OptionalFlag("up"));
	PutEnd(writer, op, outer);
	nlattr *linkInfo = writer.Nest(IFLA_LINKINFO);
	writer.PutString(IFLA_INFO_KIND, "veth");
	nlattr *data = writer.Nest(IFLA_INFO_DATA);
	nlattr *peerInfo = writer.Nest(VETH_INFO_PEER);
	writer.Fixed<ifinfomsg>();
	PutEnd(writer, op, nested);
	writer.EndNest(peerInfo);
	writer.EndNest(data);
	writer.EndNest(linkInfo);
	op.messages.push_back(writer.Finish());
	// An alias, too, is only for a device that exists.
	if (bothUp || alias)
		op.messages.push_back(FollowUp(name, bothUp, alias));
}

void EncodeBridgeAdd(const Args &args, Op &op)
{
	const std::string name = args.DeviceName("name");
	op.object += " " + name;
	op.changesNames = true;
	MessageWriter writer(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
	PutUp(writer.Fixed<ifinfomsg>(), args.OptionalFlag("up"));
	writer.PutString(IFLA_IFNAME, name);
	if (const auto mac = args.OptionalMac("mac"))
		writer.Put(IFLA_ADDRESS, mac->data(), mac->size());
	if (const auto mtu = args.OptionalNumber("mtu", 1, maxMtu))
		writer.PutU32(IFLA_MTU, *mtu);
	nlattr *linkInfo = writer.Nest(IFLA_LINKINFO);
	writer.PutString(IFLA_INFO_KIND, "bridge");
	writer.EndNest(linkInfo);
	op.messages.push_back(writer.Finish());
}

void EncodeLinkSet(const Args &args, Op &op)
{
	const LinkRef link = args.Link("link");
	op.object += " " + link.text();
	MessageWriter writer(RTM_SETLINK, 0);
	auto *info = writer.Fixed<ifinfomsg>();
	const bool rename = args.Has("name");
	op.changesNames = rename || args.Has("netns");
	// The kernel finds the device by name itself, unless the name in the request is the new one.
	if (rename || link.name.empty())
		writer.SetLink(&info->ifi_index, link);
	else
		writer.PutString(IFLA_IFNAME, link.name);
	PutUp(info, args.OptionalFlag("up"));
	if (const auto mtu = args.OptionalNumber("mtu", 1, maxMtu))
		writer.PutU32(IFLA_MTU, *mtu);
	if (const auto mac = args.OptionalMac("mac"))
		writer.Put(IFLA_ADDRESS, mac->data(), mac->size());
	if (const auto alias = args.OptionalString("alias", maxAlias))
		writer.Put(IFLA_IFALIAS, alias->data(), alias->size());
	if (rename)
		writer.PutString(IFLA_IFNAME, args.DeviceName("name"));
	if (const auto master = args.OptionalLinkOrNone("master"))
		writer.PutLink(IFLA_MASTER, *master);
	if (const auto group = args.OptionalNumber("group", 0, UINT32_MAX))
		writer.PutU32(IFLA_GROUP, *group);
	PutNetns(writer, op, args.OptionalNetns("netns"));
	op.messages.push_back(writer.Finish());
}

void EncodeLinkDel(const Args &args, Op &op)
{
	const LinkRef link = args.Link("link");
	op.object += " " + link.text();
	op.changesNames = true;
	MessageWriter writer(RTM_DELLINK, 0);
	writer.Fixed<ifinfomsg>()->ifi_index = static_cast<int>(link.index);
	if (!link.name.empty())
		writer.PutString(IFLA_IFNAME, link.name);
	op.messages.push_back(writer.Finish());
}

// All devices of a group go in one step of the kernel, and so wait for RCU once.
void EncodeLinkGroupDel(const Args &args, Op &op)
{
	// 0 is where every device is that nobody put elsewhere.
	const uint32_t group = args.Number("group", 1, UINT32_MAX);
	op.object += " " + std::to_string(group);
	op.changesNames = true;
	MessageWriter writer(RTM_DELLINK, 0);
	writer.Fixed<ifinfomsg>();
	writer.PutU32(IFLA_GROUP, group);
	op.messages.push_back(writer.Finish());
}

// Which XDP program a device has in one of its places (linux/if_link.h). Never over another's: without
// `expected` only where none is, else only where that one is.
void EncodeXdp(const Args &args, Op &op)
{
	const LinkRef link = args.Link("link");
	const std::string mode = args.String("mode", 16);
	op.object += " " + link.text() + " " + mode;
	if (mode != "native" && mode != "generic")
		args.Fail("mode", "'" + mode + "' is neither native nor generic");
	const auto program = args.OptionalNumber("fd", 0, INT32_MAX);
	const auto expected = args.OptionalNumber("expected", 0, INT32_MAX);
	if (!program && !expected)
		args.Fail("expected", "what is taken off must be named");
	MessageWriter writer(RTM_SETLINK, 0);
	writer.SetLink(&writer.Fixed<ifinfomsg>()->ifi_index, link);
	nlattr *xdp = writer.Nest(IFLA_XDP);
	// -1: none.
	writer.PutU32(IFLA_XDP_FD, program.value_or(UINT32_MAX));
	writer.PutU32(IFLA_XDP_FLAGS, (mode == "native" ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE) |
					  (expected ? XDP_FLAGS_REPLACE : XDP_FLAGS_UPDATE_IF_NOEXIST));
	if (expected)
		writer.PutU32(IFLA_XDP_EXPECTED_FD, *expected);
	writer.EndNest(xdp);
	op.messages.push_back(writer.Finish());
}

// Without statistics, which the kernel sums up over all CPUs, for IPv6 once more: most of an answer, and
// nobody reads them.
Message GetLinkRequest(const LinkRef &link)
{
	MessageWriter writer(RTM_GETLINK, 0);
	writer.Fixed<ifinfomsg>()->ifi_index = static_cast<int>(link.index);
	if (!link.name.empty())
		writer.PutString(IFLA_IFNAME, link.name);
	writer.PutU32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	return writer.Finish();
}

Message DumpLinks()
{
	MessageWriter writer(RTM_GETLINK, NLM_F_DUMP);
	writer.Fixed<ifinfomsg>();
	writer.PutU32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	return writer.Finish();
}

Napi::Value DecodeLink(Napi::Env env, const nlmsghdr *message)
{
	const auto *info = FixedHeader<ifinfomsg>(message);
	// AF_BRIDGE: a bridge's port, told on its own and without the device's attributes.
	if (!info || info->ifi_family != AF_UNSPEC)
		return env.Undefined();
	const Attributes<IFLA_MAX> attributes(message, sizeof(*info));
	const Attributes<IFLA_INFO_MAX> linkInfo(attributes[IFLA_LINKINFO]);
	Napi::Object link = Napi::Object::New(env);
	link.Set("index", Napi::Number::New(env, info->ifi_index));
	link.Set("name", attributes.Text(IFLA_IFNAME).value_or(""));
	const auto kind = linkInfo.Text(IFLA_INFO_KIND);
	if (kind)
		link.Set("kind", *kind);
	if (const nlattr *mac = attributes[IFLA_ADDRESS]; mac && mnl_attr_get_payload_len(mac) > 0)
		link.Set("mac", MacText(static_cast<const uint8_t *>(mnl_attr_get_payload(mac)),
					mnl_attr_get_payload_len(mac)));
	link.Set("group", Napi::Number::New(env, attributes.U32(IFLA_GROUP).value_or(0)));
	link.Set("mtu", Napi::Number::New(env, attributes.U32(IFLA_MTU).value_or(0)));
	link.Set("up", Napi::Boolean::New(env, info->ifi_flags & IFF_UP));
	const uint8_t *state = attributes.Bytes(IFLA_OPERSTATE, 1);
	// RFC 2863: IF_OPER_UNKNOWN 0 (lo never says), IF_OPER_UP 6.
	link.Set("running",
		 Napi::Boolean::New(env, !state || *state == IF_OPER_UNKNOWN || *state == IF_OPER_UP));
	if (const auto alias = attributes.Text(IFLA_IFALIAS))
		link.Set("alias", *alias);
	if (const auto master = attributes.U32(IFLA_MASTER))
		link.Set("master", Napi::Number::New(env, *master));
	if (const auto peer = attributes.U32(IFLA_LINK); peer && kind == "veth")
		link.Set("peerIndex", Napi::Number::New(env, *peer));
	return link;
}

} // namespace tortie
