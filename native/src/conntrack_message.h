// Messages of ctnetlink: entries from the wire, tuples to the wire. Runs on any thread; knows nothing of
// JavaScript. Facts: linux/netfilter/nfnetlink_conntrack.h, net/netfilter/nf_conntrack_netlink.c.
#pragma once
#include "address.h"
#include "message.h"
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tortie
{

class ConntrackRequest : public MessageWriter
{
      public:
	// IPCTNL_MSG_CT_*; AF_INET, AF_INET6 or AF_UNSPEC.
	ConntrackRequest(uint8_t command, uint16_t flags, int family);
	void PutBig16(uint16_t type, uint16_t value);
	void PutBig32(uint16_t type, uint32_t value);
};

// What a protocol's tuples hold besides addresses.
enum class TupleForm { Plain, Ports, Icmp };
TupleForm FormOf(uint8_t protocol);

struct ConntrackTuple {
	IpAddress source;
	IpAddress destination;
	uint8_t protocol = 0;
	// Source port (GRE: key) or ICMP id; destination port. 0 where the form has none.
	uint16_t first = 0;
	uint16_t second = 0;
	uint8_t icmpType = 0;
	uint8_t icmpCode = 0;
};

bool SameTuple(const ConntrackTuple &a, const ConntrackTuple &b);
// What answers to such packets look like. Nothing for ICMP types that have no answer: the kernel doesn't
// track them.
std::optional<ConntrackTuple> Inverse(const ConntrackTuple &tuple);
// `tcp 10.0.0.1:40000 > 10.96.0.1:80`, for errors.
std::string TupleText(const ConntrackTuple &tuple);

enum class ZoneDirection : uint8_t { Both, Original, Reply };

struct ConntrackZone {
	uint16_t id = 0;
	ZoneDirection direction = ZoneDirection::Both;
};

struct TcpState {
	uint8_t state = 0;
	uint8_t originalFlags = 0;
	uint8_t replyFlags = 0;
	uint8_t originalScale = 0;
	uint8_t replyScale = 0;
};

struct SctpState {
	uint8_t state = 0;
	uint32_t originalTag = 0;
	uint32_t replyTag = 0;
};

// What a message says of an entry; the numbers are known to conntrack-rows.ts.
enum class ConntrackChange : uint8_t { New, Update, Destroy };

struct ConntrackRecord {
	ConntrackChange change = ConntrackChange::Update;
	int family = 0;
	ConntrackTuple original;
	ConntrackTuple reply;
	ConntrackZone zone;
	uint32_t mark = 0;
	uint32_t status = 0;
	// Seconds.
	std::optional<uint32_t> timeout;
	uint32_t id = 0;
	std::optional<TcpState> tcp;
	std::optional<SctpState> sctp;
	std::string helper;
	// Found by comparing the tuples.
	bool sourceChanged = false;
	bool destinationChanged = false;
};

// Nothing for a message that isn't an entry of IPv4 or IPv6 with both its tuples.
std::optional<ConntrackRecord> DecodeConntrack(const nlmsghdr *message);

// The tuple under CTA_TUPLE_ORIG or CTA_TUPLE_REPLY, with the zone if it belongs into it.
void PutTuple(ConntrackRequest &request, uint16_t type, const ConntrackTuple &tuple,
	      const ConntrackZone &zone);
// The zone of an entry to be made, or to be found by tuples of either type, when it is one of both
// directions.
void PutZone(ConntrackRequest &request, const ConntrackZone &zone);

} // namespace tortie
