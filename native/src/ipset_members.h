// Members of ipsets between text, as ipset(8) prints it, and the wire.
#pragma once
#include "message.h"
#include <optional>
#include <string>
#include <vector>

namespace tortie
{

// `10.0.0.0/8`, `10.0.0.1`, `fd00::/64`, `10.0.0.0/8,eth0`, `10.0.0.1,tcp:80`; others' sets may also have
// `10.0.0.0/8,physdev:eth0`, `... nomatch` and
// `... wildcard`.
struct SetMember {
	std::string text;
	IpAddress net;
	std::string iface;
	// 0: the member has no port. The kernel takes no protocol 0.
	uint8_t protocol = 0;
	uint16_t port = 0;
	uint32_t flags = 0;
};

// What is wrong with it, if anything.
std::optional<std::string> ParseMember(const std::string &text, SetMember &member);
// Puts it as one IPSET_ATTR_DATA; `line` comes back in the error if the kernel refuses this one.
void PutMember(MessageWriter &writer, const SetMember &member, uint32_t line);
// The most bytes that PutMember writes.
inline constexpr size_t memberSize = 96;
// From one element of a listing; nothing if it is no address.
std::optional<std::string> MemberText(const nlattr *data);

} // namespace tortie
