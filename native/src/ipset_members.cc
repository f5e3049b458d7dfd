#include "ipset_members.h"
#include "objects.h"
#include <arpa/inet.h>
#include <linux/if.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <utility>

namespace tortie
{

static constexpr std::pair<const char *, uint32_t> words[] = {{" nomatch", IPSET_FLAG_NOMATCH},
							      {" wildcard", IPSET_FLAG_IFACE_WILDCARD}};
static const std::string physdev = "physdev:";

std::optional<std::string> ParseMember(const std::string &text, SetMember &member)
{
	member = SetMember();
	member.text = text;
	std::string rest = text;
	for (bool again = true; again;) {
		again = false;
		for (const auto &[word, flag] : words) {
			if (!rest.ends_with(word))
				continue;
			rest.resize(rest.size() - std::char_traits<char>::length(word));
			member.flags |= flag;
			again = true;
		}
	}
	if (const size_t comma = rest.find(','); comma != std::string::npos) {
		member.iface = rest.substr(comma + 1);
		rest.resize(comma);
		if (member.iface.starts_with(physdev)) {
			member.iface.erase(0, physdev.size());
			member.flags |= IPSET_FLAG_PHYSDEV;
		}
		if (member.iface.empty() || member.iface.size() >= IFNAMSIZ ||
		    member.iface.find('\0') != std::string::npos)
			return "the device's name must have 1 to 15 bytes";
	}
	const auto net = rest.find('/') == std::string::npos ? ParseAddress(rest) : ParseCidr(rest);
	if (!net)
		return "it is not an address, a net, or one of them with ',' and a device";
	member.net = *net;
	return std::nullopt;
}

static uint16_t AddressType(int family)
{
	return (family == AF_INET ? IPSET_ATTR_IPADDR_IPV4 : IPSET_ATTR_IPADDR_IPV6) | NLA_F_NET_BYTEORDER;
}

void PutMember(MessageWriter &writer, const SetMember &member, uint32_t line)
{
	nlattr *data = writer.Nest(IPSET_ATTR_DATA);
	nlattr *ip = writer.Nest(IPSET_ATTR_IP);
	writer.Put(AddressType(member.net.family), member.net.bytes.data(), member.net.size());
	writer.EndNest(ip);
	if (member.net.prefix != member.net.bits())
		writer.PutU8(IPSET_ATTR_CIDR, member.net.prefix);
	if (!member.iface.empty())
		writer.PutString(IPSET_ATTR_IFACE, member.iface);
	if (member.flags)
		writer.PutU32(IPSET_ATTR_CADT_FLAGS | NLA_F_NET_BYTEORDER, htonl(member.flags));
	writer.PutU32(IPSET_ATTR_LINENO, line);
	writer.EndNest(data);
}

std::optional<std::string> MemberText(const nlattr *data)
{
	const Attributes<IPSET_ATTR_ADT_MAX> attributes(data);
	const Attributes<IPSET_ATTR_IPADDR_MAX> ip(attributes[IPSET_ATTR_IP]);
	for (const int family : {AF_INET, AF_INET6}) {
		const int type = family == AF_INET ? IPSET_ATTR_IPADDR_IPV4 : IPSET_ATTR_IPADDR_IPV6;
		const uint8_t *bytes = ip.Bytes(type, AddressSize(family));
		if (!bytes)
			continue;
		std::string text = AddressText(family, bytes);
		const uint8_t *prefix = attributes.Bytes(IPSET_ATTR_CIDR, 1);
		if (prefix && *prefix != AddressSize(family) * 8)
			text += "/" + std::to_string(*prefix);
		const uint32_t flags = ntohl(attributes.U32(IPSET_ATTR_CADT_FLAGS).value_or(0));
		if (const auto iface = attributes.Text(IPSET_ATTR_IFACE))
			text += (flags & IPSET_FLAG_PHYSDEV ? "," + physdev : ",") + *iface;
		for (const auto &[word, flag] : words)
			if (flags & flag)
				text += word;
		return text;
	}
	return std::nullopt;
}

} // namespace tortie
