#include "conntrack_message.h"
#include "objects.h"
#include <algorithm>
#include <arpa/inet.h>
#include <cstring>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

namespace tortie
{

namespace
{

constexpr struct {
	uint8_t protocol;
	uint8_t request;
	uint8_t reply;
} icmpPairs[] = {
    // net/netfilter/nf_conntrack_proto_icmp.c, invmap: echo, timestamp, information, address mask.
    {IPPROTO_ICMP, 8, 0},
    {IPPROTO_ICMP, 13, 14},
    {IPPROTO_ICMP, 15, 16},
    {IPPROTO_ICMP, 17, 18},
    // nf_conntrack_proto_icmpv6.c: echo, node information.
    {IPPROTO_ICMPV6, 128, 129},
    {IPPROTO_ICMPV6, 139, 140},
};

std::optional<uint8_t> IcmpAnswer(uint8_t protocol, uint8_t type)
{
	for (const auto &pair : icmpPairs) {
		if (pair.protocol == protocol && pair.request == type)
			return pair.reply;
		if (pair.protocol == protocol && pair.reply == type)
			return pair.request;
	}
	return std::nullopt;
}

std::optional<uint8_t> U8(const nlattr *attribute)
{
	if (!attribute || mnl_attr_get_payload_len(attribute) < sizeof(uint8_t))
		return std::nullopt;
	return mnl_attr_get_u8(attribute);
}

std::optional<uint16_t> Big16(const nlattr *attribute)
{
	if (!attribute || mnl_attr_get_payload_len(attribute) < sizeof(uint16_t))
		return std::nullopt;
	return ntohs(mnl_attr_get_u16(attribute));
}

std::optional<uint32_t> Big32(const nlattr *attribute)
{
	if (!attribute || mnl_attr_get_payload_len(attribute) < sizeof(uint32_t))
		return std::nullopt;
	return ntohl(mnl_attr_get_u32(attribute));
}

std::optional<IpAddress> ReadAddress(const Attributes<CTA_IP_MAX> &ip, int family, int type4, int type6)
{
	const size_t size = AddressSize(family);
	const uint8_t *bytes = ip.Bytes(family == AF_INET ? type4 : type6, size);
	if (!bytes)
		return std::nullopt;
	IpAddress address;
	address.family = family;
	address.prefix = address.bits();
	std::copy_n(bytes, size, address.bytes.begin());
	return address;
}

std::optional<ConntrackTuple> ReadTuple(const nlattr *nest, int family)
{
	const Attributes<CTA_TUPLE_MAX> parts(nest);
	const Attributes<CTA_IP_MAX> ip(parts[CTA_TUPLE_IP]);
	const Attributes<CTA_PROTO_MAX> proto(parts[CTA_TUPLE_PROTO]);
	const auto source = ReadAddress(ip, family, CTA_IP_V4_SRC, CTA_IP_V6_SRC);
	const auto destination = ReadAddress(ip, family, CTA_IP_V4_DST, CTA_IP_V6_DST);
	const auto protocol = U8(proto[CTA_PROTO_NUM]);
	if (!source || !destination || !protocol)
		return std::nullopt;
	ConntrackTuple tuple{*source, *destination, *protocol};
	if (FormOf(*protocol) == TupleForm::Plain)
		return tuple;
	const bool icmp6 = *protocol == IPPROTO_ICMPV6;
	if (FormOf(*protocol) == TupleForm::Ports) {
		const auto first = Big16(proto[CTA_PROTO_SRC_PORT]);
		const auto second = Big16(proto[CTA_PROTO_DST_PORT]);
		if (!first || !second)
			return std::nullopt;
		tuple.first = *first;
		tuple.second = *second;
		return tuple;
	}
	const auto id = Big16(proto[icmp6 ? CTA_PROTO_ICMPV6_ID : CTA_PROTO_ICMP_ID]);
	const auto type = U8(proto[icmp6 ? CTA_PROTO_ICMPV6_TYPE : CTA_PROTO_ICMP_TYPE]);
	const auto code = U8(proto[icmp6 ? CTA_PROTO_ICMPV6_CODE : CTA_PROTO_ICMP_CODE]);
	if (!id || !type || !code)
		return std::nullopt;
	tuple.first = *id;
	tuple.icmpType = *type;
	tuple.icmpCode = *code;
	return tuple;
}

// A zone of one direction stands in that direction's tuple.
ConntrackZone ReadZone(const Attributes<CTA_MAX> &attributes)
{
	if (const auto id = Big16(attributes[CTA_ZONE]))
		return {*id, ZoneDirection::Both};
	const Attributes<CTA_TUPLE_MAX> original(attributes[CTA_TUPLE_ORIG]);
	if (const auto id = Big16(original[CTA_TUPLE_ZONE]))
		return {*id, ZoneDirection::Original};
	const Attributes<CTA_TUPLE_MAX> reply(attributes[CTA_TUPLE_REPLY]);
	if (const auto id = Big16(reply[CTA_TUPLE_ZONE]))
		return {*id, ZoneDirection::Reply};
	return {};
}

uint8_t ReadFlags(const Attributes<CTA_PROTOINFO_TCP_MAX> &tcp, int type)
{
	const uint8_t *bytes = tcp.Bytes(type, sizeof(nf_ct_tcp_flags));
	return bytes ? bytes[offsetof(nf_ct_tcp_flags, flags)] : 0;
}

void ReadProtocolState(const nlattr *nest, ConntrackRecord &record)
{
	const Attributes<CTA_PROTOINFO_MAX> info(nest);
	const Attributes<CTA_PROTOINFO_TCP_MAX> tcp(info[CTA_PROTOINFO_TCP]);
	if (const auto state = U8(tcp[CTA_PROTOINFO_TCP_STATE])) {
		record.tcp = {*state, ReadFlags(tcp, CTA_PROTOINFO_TCP_FLAGS_ORIGINAL),
			      ReadFlags(tcp, CTA_PROTOINFO_TCP_FLAGS_REPLY),
			      U8(tcp[CTA_PROTOINFO_TCP_WSCALE_ORIGINAL]).value_or(0),
			      U8(tcp[CTA_PROTOINFO_TCP_WSCALE_REPLY]).value_or(0)};
		return;
	}
	const Attributes<CTA_PROTOINFO_SCTP_MAX> sctp(info[CTA_PROTOINFO_SCTP]);
	if (const auto state = U8(sctp[CTA_PROTOINFO_SCTP_STATE]))
		record.sctp = {*state, Big32(sctp[CTA_PROTOINFO_SCTP_VTAG_ORIGINAL]).value_or(0),
			       Big32(sctp[CTA_PROTOINFO_SCTP_VTAG_REPLY]).value_or(0)};
}

std::optional<ConntrackChange> ChangeOf(const nlmsghdr *message)
{
	if (message->nlmsg_type == (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE))
		return ConntrackChange::Destroy;
	if (message->nlmsg_type != (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW))
		return std::nullopt;
	return message->nlmsg_flags & NLM_F_CREATE ? ConntrackChange::New : ConntrackChange::Update;
}

bool SameAddress(const IpAddress &a, const IpAddress &b)
{
	return a.family == b.family && a.bytes == b.bytes;
}

} // namespace

ConntrackRequest::ConntrackRequest(uint8_t command, uint16_t flags, int family)
    : MessageWriter(NFNL_SUBSYS_CTNETLINK << 8 | command, flags)
{
	auto *header = Fixed<nfgenmsg>();
	header->nfgen_family = static_cast<uint8_t>(family);
	header->version = NFNETLINK_V0;
}

void ConntrackRequest::PutBig16(uint16_t type, uint16_t value)
{
	const uint16_t big = htons(value);
	Put(type, &big, sizeof(big));
}

void ConntrackRequest::PutBig32(uint16_t type, uint32_t value)
{
	PutU32(type, htonl(value));
}

TupleForm FormOf(uint8_t protocol)
{
	switch (protocol) {
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return TupleForm::Icmp;
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_DCCP:
	case IPPROTO_GRE:
	case IPPROTO_SCTP:
	case IPPROTO_UDPLITE:
		return TupleForm::Ports;
	default:
		return TupleForm::Plain;
	}
}

bool SameTuple(const ConntrackTuple &a, const ConntrackTuple &b)
{
	return SameAddress(a.source, b.source) && SameAddress(a.destination, b.destination) &&
	       a.protocol == b.protocol && a.first == b.first && a.second == b.second &&
	       a.icmpType == b.icmpType && a.icmpCode == b.icmpCode;
}

std::optional<ConntrackTuple> Inverse(const ConntrackTuple &tuple)
{
	ConntrackTuple inverse = tuple;
	std::swap(inverse.source, inverse.destination);
	switch (FormOf(tuple.protocol)) {
	case TupleForm::Plain:
		break;
	case TupleForm::Ports:
		std::swap(inverse.first, inverse.second);
		break;
	case TupleForm::Icmp: {
		const auto answer = IcmpAnswer(tuple.protocol, tuple.icmpType);
		if (!answer)
			return std::nullopt;
		inverse.icmpType = *answer;
		break;
	}
	}
	return inverse;
}

std::string TupleText(const ConntrackTuple &tuple)
{
	static constexpr struct {
		uint8_t protocol;
		const char *name;
	} names[] = {{IPPROTO_TCP, "tcp"},
		     {IPPROTO_UDP, "udp"},
		     {IPPROTO_SCTP, "sctp"},
		     {IPPROTO_ICMP, "icmp"},
		     {IPPROTO_ICMPV6, "icmpv6"}};
	std::string text = std::to_string(tuple.protocol);
	for (const auto &known : names)
		if (known.protocol == tuple.protocol)
			text = known.name;
	const TupleForm form = FormOf(tuple.protocol);
	const auto end = [&](const IpAddress &address, uint16_t port) {
		const std::string ip = AddressText(address.family, address.bytes.data());
		if (form != TupleForm::Ports)
			return ip;
		return (address.family == AF_INET6 ? "[" + ip + "]" : ip) + ":" + std::to_string(port);
	};
	text += " " + end(tuple.source, tuple.first) + " > " + end(tuple.destination, tuple.second);
	if (form == TupleForm::Icmp)
		text += " type " + std::to_string(tuple.icmpType) + " id " + std::to_string(tuple.first);
	return text;
}

std::optional<ConntrackRecord> DecodeConntrack(const nlmsghdr *message)
{
	const auto change = ChangeOf(message);
	const auto *header = FixedHeader<nfgenmsg>(message);
	if (!change || !header || (header->nfgen_family != AF_INET && header->nfgen_family != AF_INET6))
		return std::nullopt;
	const Attributes<CTA_MAX> attributes(message, sizeof(nfgenmsg));
	const auto original = ReadTuple(attributes[CTA_TUPLE_ORIG], header->nfgen_family);
	const auto reply = ReadTuple(attributes[CTA_TUPLE_REPLY], header->nfgen_family);
	if (!original || !reply)
		return std::nullopt;
	ConntrackRecord record;
	record.change = *change;
	record.family = header->nfgen_family;
	record.original = *original;
	record.reply = *reply;
	record.zone = ReadZone(attributes);
	record.mark = Big32(attributes[CTA_MARK]).value_or(0);
	record.status = Big32(attributes[CTA_STATUS]).value_or(0);
	record.timeout = Big32(attributes[CTA_TIMEOUT]);
	record.id = Big32(attributes[CTA_ID]).value_or(0);
	ReadProtocolState(attributes[CTA_PROTOINFO], record);
	const Attributes<CTA_HELP_MAX> help(attributes[CTA_HELP]);
	record.helper = help.Text(CTA_HELP_NAME).value_or("");
	if (const auto onward = Inverse(*reply)) {
		// An ICMP id is the source's.
		record.sourceChanged =
		    !SameAddress(onward->source, original->source) || onward->first != original->first;
		record.destinationChanged = !SameAddress(onward->destination, original->destination) ||
					    onward->second != original->second;
	}
	return record;
}

void PutTuple(ConntrackRequest &request, uint16_t type, const ConntrackTuple &tuple,
	      const ConntrackZone &zone)
{
	const bool v4 = tuple.source.family == AF_INET;
	nlattr *nest = request.Nest(type);
	nlattr *ip = request.Nest(CTA_TUPLE_IP);
	request.Put(v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, tuple.source.bytes.data(), tuple.source.size());
	request.Put(v4 ? CTA_IP_V4_DST : CTA_IP_V6_DST, tuple.destination.bytes.data(),
		    tuple.destination.size());
	request.EndNest(ip);
	nlattr *proto = request.Nest(CTA_TUPLE_PROTO);
	request.PutU8(CTA_PROTO_NUM, tuple.protocol);
	switch (FormOf(tuple.protocol)) {
	case TupleForm::Plain:
		break;
	case TupleForm::Ports:
		request.PutBig16(CTA_PROTO_SRC_PORT, tuple.first);
		request.PutBig16(CTA_PROTO_DST_PORT, tuple.second);
		break;
	case TupleForm::Icmp: {
		const bool icmp6 = tuple.protocol == IPPROTO_ICMPV6;
		request.PutBig16(icmp6 ? CTA_PROTO_ICMPV6_ID : CTA_PROTO_ICMP_ID, tuple.first);
		request.PutU8(icmp6 ? CTA_PROTO_ICMPV6_TYPE : CTA_PROTO_ICMP_TYPE, tuple.icmpType);
		request.PutU8(icmp6 ? CTA_PROTO_ICMPV6_CODE : CTA_PROTO_ICMP_CODE, tuple.icmpCode);
		break;
	}
	}
	request.EndNest(proto);
	const auto own = type == CTA_TUPLE_ORIG ? ZoneDirection::Original : ZoneDirection::Reply;
	if (zone.direction == own)
		request.PutBig16(CTA_TUPLE_ZONE, zone.id);
	request.EndNest(nest);
}

void PutZone(ConntrackRequest &request, const ConntrackZone &zone)
{
	if (zone.direction == ZoneDirection::Both && zone.id != 0)
		request.PutBig16(CTA_ZONE, zone.id);
}

} // namespace tortie
