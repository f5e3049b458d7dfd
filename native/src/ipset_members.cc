#include "ipset_members.h"
#include "objects.h"
#include <arpa/inet.h>
#include <charconv>
#include <linux/if.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <utility>

namespace tortie
{

static constexpr std::pair<const char *, uint32_t> words[] = {{" nomatch", IPSET_FLAG_NOMATCH},
							      {" wildcard", IPSET_FLAG_IFACE_WILDCARD}};
static const std::string physdev = "physdev:";

// The protocols that have ports in a set; ipset(8) prints them by name. Any other one is printed by number.
static constexpr std::pair<const char *, uint8_t> protocols[] = {
    {"tcp", IPPROTO_TCP}, {"udp", IPPROTO_UDP}, {"sctp", IPPROTO_SCTP}, {"udplite", IPPROTO_UDPLITE}};

// A whole decimal number from `least` to `most`.
static std::optional<uint32_t> ParseNumber(std::string_view text, uint32_t least, uint32_t most)
{
	uint32_t number = 0;
	const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
	if (error != std::errc() || end != text.data() + text.size() || number < least || number > most)
		return std::nullopt;
	return number;
}

static std::optional<uint8_t> ParseProtocol(const std::string &text)
{
	for (const auto &[name, number] : protocols)
		if (text == name)
			return number;
	return ParseNumber(text, 1, UINT8_MAX);
}

static std::string ProtocolText(uint8_t protocol)
{
	for (const auto &[name, number] : protocols)
		if (protocol == number)
			return name;
	return std::to_string(protocol);
}

// `tcp:80` or `47:0`.
static std::optional<std::string> ParsePort(const std::string &text, SetMember &member)
{
	const size_t colon = text.find(':');
	const auto protocol = ParseProtocol(text.substr(0, colon));
	if (!protocol)
		return "the protocol must be tcp, udp, sctp, udplite or a number from 1 to 255";
	const auto port = ParseNumber(std::string_view(text).substr(colon + 1), 0, UINT16_MAX);
	if (!port)
		return "the port must be a number from 0 to 65535";
	member.protocol = *protocol;
	member.port = static_cast<uint16_t>(*port);
	return std::nullopt;
}

// `eth0` or `physdev:eth0`.
static std::optional<std::string> ParseDevice(const std::string &text, SetMember &member)
{
	member.iface = text;
	if (member.iface.starts_with(physdev)) {
		member.iface.erase(0, physdev.size());
		member.flags |= IPSET_FLAG_PHYSDEV;
	}
	if (member.iface.empty() || member.iface.size() >= IFNAMSIZ ||
	    member.iface.find('\0') != std::string::npos)
		return "the device's name must have 1 to 15 bytes";
	return std::nullopt;
}

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
		const std::string second = rest.substr(comma + 1);
		rest.resize(comma);
		// A device's name has no colon.
		if (second.find(':') != std::string::npos && !second.starts_with(physdev)) {
			if (const auto problem = ParsePort(second, member))
				return problem;
		} else if (const auto problem = ParseDevice(second, member)) {
			return problem;
		}
	}
	const auto net = rest.find('/') == std::string::npos ? ParseAddress(rest) : ParseCidr(rest);
	if (!net)
		return "it is not an address, a net, or one of them with ',' and a device or a port";
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
	if (member.protocol) {
		const uint16_t port = htons(member.port);
		writer.PutU8(IPSET_ATTR_PROTO, member.protocol);
		writer.Put(IPSET_ATTR_PORT | NLA_F_NET_BYTEORDER, &port, sizeof(port));
	}
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
		const uint8_t *protocol = attributes.Bytes(IPSET_ATTR_PROTO, 1);
		const uint8_t *port = attributes.Bytes(IPSET_ATTR_PORT, sizeof(uint16_t));
		if (protocol && port)
			text += "," + ProtocolText(*protocol) + ":" + std::to_string(port[0] << 8 | port[1]);
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
