// Whether a device's driver runs XDP programs: what the driver says of itself (generic netlink's family
// "netdev", Linux 6.3, Documentation/netlink/specs/netdev.yaml). Attaching would tell everywhere, but some
// drivers take the link down for it: not for a probe.
#include "message.h"
#include "objects.h"
#include "probe.h"
#include "socket.h"
#include <cerrno>
#include <cstring>
#include <linux/genetlink.h>

namespace tortie
{
namespace
{

// linux/netdev.h of Linux 6.3.
constexpr uint8_t deviceGet = 1;
constexpr uint16_t attributeIfindex = 1;
constexpr int attributeXdpFeatures = 3;
constexpr uint64_t featureBasic = 1;

const nlmsghdr *First(const std::vector<uint8_t> &reply)
{
	return reply.size() < sizeof(nlmsghdr) ? nullptr : reinterpret_cast<const nlmsghdr *>(reply.data());
}

std::vector<uint8_t> Ask(Socket &socket, uint16_t family, uint8_t command, uint16_t type, const void *value,
			 size_t length, const std::string &object)
{
	MessageWriter request(family, 0);
	auto *header = request.Fixed<genlmsghdr>();
	header->cmd = command;
	header->version = 1;
	request.Put(type, value, length);
	return socket.Get(request.Finish(), object);
}

} // namespace

ProbeAnswer ProbeXdp(uint32_t ifindex)
{
	const std::string device = "device " + std::to_string(ifindex);
	try {
		const auto socket = Socket::Open(NETLINK_GENERIC);
		const auto family = Ask(*socket, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME,
					"netdev", sizeof("netdev"), "generic netlink family netdev");
		const nlmsghdr *about = First(family);
		const uint8_t *id = about ? Attributes<CTRL_ATTR_FAMILY_ID>(about, sizeof(genlmsghdr))
						.Bytes(CTRL_ATTR_FAMILY_ID, sizeof(uint16_t))
					  : nullptr;
		uint16_t number = 0;
		if (id)
			memcpy(&number, id, sizeof(number));
		const auto reply =
		    Ask(*socket, number, deviceGet, attributeIfindex, &ifindex, sizeof(ifindex), device);
		const nlmsghdr *said = First(reply);
		const uint8_t *bytes = said ? Attributes<attributeXdpFeatures>(said, sizeof(genlmsghdr))
						  .Bytes(attributeXdpFeatures, sizeof(uint64_t))
					    : nullptr;
		if (!bytes)
			return {ProbeAnswer::unknown, "the kernel doesn't say what XDP " + device + " has"};
		uint64_t features = 0;
		memcpy(&features, bytes, sizeof(features));
		if (features & featureBasic)
			return ProbeYes();
		return {ProbeAnswer::no,
			"the driver of " + device + " has no XDP: only generic XDP runs there"};
	} catch (const KernelError &error) {
		const Failure &failure = error.failure;
		if (failure.number == ENOENT)
			return {ProbeAnswer::unknown, "this kernel doesn't say what drivers can (Linux 6.3): "
						      "only attaching would tell"};
		return ProbeUnknown(failure.number, failure.object);
	}
}

} // namespace tortie
