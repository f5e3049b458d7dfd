#include "conntrack_requests.h"
#include "conntrack_message.h"
#include "objects.h"
#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <set>
#include <span>

namespace tortie
{

namespace
{

// A walk through the kernel's table (some 10 ms with its usual 262144 buckets) costs as much as handing out
// so many entries.
constexpr uint64_t entriesPerWalk = 5000;

// The bit for the source address in CTA_FILTER_*_FLAGS; the kernel's headers don't name it
// (net/netfilter/nf_conntrack_netlink.c, CTA_FILTER_F_CTA_IP_SRC).
constexpr uint32_t filterSource = 1 << 0;

// Each with its family.
using Addresses = std::set<std::pair<int, std::array<uint8_t, 16>>>;

// What names one entry, as the kernel wrote it.
struct Entry {
	int family;
	std::vector<uint8_t> original;
	std::vector<uint8_t> zone;
	std::vector<uint8_t> id;
};

std::vector<uint8_t> Copy(const nlattr *attribute)
{
	if (!attribute)
		return {};
	const auto *from = static_cast<const uint8_t *>(mnl_attr_get_payload(attribute));
	return {from, from + mnl_attr_get_payload_len(attribute)};
}

bool HasSource(const nlattr *tuple, int family, const Addresses &wanted)
{
	const Attributes<CTA_TUPLE_MAX> attributes(tuple);
	const Attributes<CTA_IP_MAX> ip(attributes[CTA_TUPLE_IP]);
	const size_t size = AddressSize(family);
	const uint8_t *bytes = ip.Bytes(family == AF_INET ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, size);
	if (!bytes)
		return false;
	std::array<uint8_t, 16> address{};
	std::copy_n(bytes, size, address.begin());
	return wanted.contains({family, address});
}

// An older kernel ignores the request's filter, so that every entry is looked at.
void Keep(const nlmsghdr *message, const Addresses &wanted, std::vector<Entry> &entries)
{
	const auto *header = FixedHeader<nfgenmsg>(message);
	if (!header || (header->nfgen_family != AF_INET && header->nfgen_family != AF_INET6))
		return;
	const int family = header->nfgen_family;
	const Attributes<CTA_MAX> attributes(message, sizeof(nfgenmsg));
	const nlattr *original = attributes[CTA_TUPLE_ORIG];
	if (HasSource(original, family, wanted) || HasSource(attributes[CTA_TUPLE_REPLY], family, wanted))
		entries.push_back(
		    {family, Copy(original), Copy(attributes[CTA_ZONE]), Copy(attributes[CTA_ID])});
}

// How many entries the namespace has.
uint32_t CountEntries(Socket &socket)
{
	const auto reply =
	    socket.Get(ConntrackRequest(IPCTNL_MSG_CT_GET_STATS, 0, AF_UNSPEC).Finish(), "conntrack.count");
	if (reply.size() < MNL_NLMSG_HDRLEN)
		return UINT32_MAX;
	const Attributes<CTA_STATS_GLOBAL_MAX> attributes(reinterpret_cast<const nlmsghdr *>(reply.data()),
							  sizeof(nfgenmsg));
	const auto entries = attributes.U32(CTA_STATS_GLOBAL_ENTRIES);
	return entries ? ntohl(*entries) : UINT32_MAX;
}

// Both families.
Message DumpRequest()
{
	return ConntrackRequest(IPCTNL_MSG_CT_GET, NLM_F_DUMP, AF_UNSPEC).Finish();
}

// Entries whose tuple (CTA_TUPLE_ORIG or CTA_TUPLE_REPLY) has this source.
Message DumpRequest(const IpAddress &source, int tuple)
{
	ConntrackRequest request(IPCTNL_MSG_CT_GET, NLM_F_DUMP, source.family);
	nlattr *nest = request.Nest(tuple);
	nlattr *ip = request.Nest(CTA_TUPLE_IP);
	request.Put(source.family == AF_INET ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, source.bytes.data(),
		    source.size());
	request.EndNest(ip);
	request.EndNest(nest);
	nlattr *filter = request.Nest(CTA_FILTER);
	request.PutU32(tuple == CTA_TUPLE_ORIG ? CTA_FILTER_ORIG_FLAGS : CTA_FILTER_REPLY_FLAGS,
		       filterSource);
	request.EndNest(filter);
	return request.Finish();
}

// All entries are read once where that is cheaper than a filtered walk for each address and direction.
std::vector<Entry> EntriesOf(Socket &socket, const std::vector<IpAddress> &addresses)
{
	const std::string object = "conntrack.list";
	std::vector<Entry> entries;
	const uint64_t count = addresses.empty() ? 0 : CountEntries(socket);
	if (count == 0)
		return entries;
	Addresses wanted;
	for (const IpAddress &address : addresses)
		wanted.insert({address.family, address.bytes});
	const auto keep = [&](const nlmsghdr *message) { Keep(message, wanted, entries); };
	if (count <= entriesPerWalk * (2 * addresses.size() - 1)) {
		socket.DumpEach(DumpRequest(), object, keep);
		return entries;
	}
	for (const IpAddress &address : addresses)
		for (const int tuple : {CTA_TUPLE_ORIG, CTA_TUPLE_REPLY})
			socket.DumpEach(DumpRequest(address, tuple), object, keep);
	return entries;
}

Message DeleteRequest(const Entry &entry)
{
	ConntrackRequest request(IPCTNL_MSG_CT_DELETE, 0, entry.family);
	request.Put(CTA_TUPLE_ORIG | NLA_F_NESTED, entry.original.data(), entry.original.size());
	if (!entry.zone.empty())
		request.Put(CTA_ZONE, entry.zone.data(), entry.zone.size());
	// An entry that was made anew since then is another connection's.
	if (!entry.id.empty())
		request.Put(CTA_ID, entry.id.data(), entry.id.size());
	return request.Finish();
}

// As many requests as one message takes, from `next` on, which moves.
std::vector<Answer> DeleteSome(Socket &socket, std::span<const Entry> entries, size_t &next)
{
	std::vector<uint8_t> bytes;
	size_t count = 0;
	for (; next < entries.size() && count < Socket::most; next++, count++) {
		const Message message = DeleteRequest(entries[next]);
		if (bytes.size() + message.bytes.size() > Socket::mostBytes)
			break;
		bytes.insert(bytes.end(), message.bytes.begin(), message.bytes.end());
	}
	return socket.Exchange(bytes, count);
}

} // namespace

uint32_t DeleteEntriesOf(Socket &socket, const std::vector<IpAddress> &addresses)
{
	const std::vector<Entry> entries = EntriesOf(socket, addresses);
	uint32_t deleted = 0;
	size_t refused = 0;
	Answer first;
	for (size_t next = 0; next < entries.size();) {
		for (const Answer &answer : DeleteSome(socket, entries, next)) {
			if (answer.error == 0) {
				deleted++;
			} else if (answer.error != ENOENT) { // That one has ended meanwhile.
				if (refused++ == 0)
					first = answer;
			}
		}
	}
	if (refused == 0)
		return deleted;
	Failure failure;
	failure.number = first.error;
	failure.syscall = "sendmsg";
	failure.object = "conntrack.delete";
	failure.extack = first.extack;
	failure.text = std::to_string(refused) + " of " + std::to_string(entries.size()) +
		       " entries were refused (EBUSY: a flowtable has them)";
	throw KernelError(failure);
}

} // namespace tortie
