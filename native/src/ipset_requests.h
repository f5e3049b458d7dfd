// Requests of ipset: what goes over the socket. Runs on any thread; knows nothing of JavaScript.
#pragma once
#include "ipset_members.h"
#include "socket.h"
#include <netinet/in.h>
#include <linux/netfilter.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter/nfnetlink.h>
#include <optional>
#include <string>
#include <vector>

namespace tortie
{

// Longest name of a set or type.
inline constexpr size_t maxSetName = IPSET_MAXNAMELEN - 1;

// The failure that an answer means, in ipset's words.
Failure IpsetFailure(const Answer &answer, const std::string &object);

// The words of ipset for errors that Socket threw.
template <typename Body> auto WithIpsetWords(Body body)
{
	try {
		return body();
	} catch (const KernelError &error) {
		throw KernelError(
		    IpsetFailure({error.failure.number, error.failure.extack, {}}, error.failure.object));
	}
}

// A request with what every request begins with.
class IpsetRequest : public MessageWriter
{
      public:
	IpsetRequest(uint8_t command, uint16_t flags, uint8_t family, uint8_t protocol)
	    : MessageWriter(NFNL_SUBSYS_IPSET << 8 | command, flags)
	{
		auto *header = Fixed<nfgenmsg>();
		header->nfgen_family = family;
		header->version = NFNETLINK_V0;
		PutU8(IPSET_ATTR_PROTOCOL, protocol);
	}
};

// The newest version of the protocol that both sides speak.
uint8_t NegotiateIpset(Socket &socket);

struct SetSpec {
	std::string name;
	std::string type;
	uint8_t family = NFPROTO_IPV4;
	std::optional<uint32_t> maxelem;
	std::optional<uint32_t> hashsize;
};

// A set or, if one is named, a member that the kernel, or our reading of it, refused.
struct Refused {
	std::string set;
	std::optional<std::string> member;
	Failure failure;
};

// Makes all of them, many to a message.
std::vector<Refused> CreateSets(Socket &socket, uint8_t protocol, const std::vector<SetSpec> &specs);

struct SetChange {
	std::string name;
	std::vector<std::string> add;
	std::vector<std::string> del;
};

// Changes one set after the other: deletes, then adds, many members to a message. The kernel stops at a
// member that it refuses and says which: the rest goes again. A set that is the trouble itself is one
// failure.
std::vector<Refused> UpdateSets(Socket &socket, uint8_t protocol, const std::vector<SetChange> &changes);

} // namespace tortie
