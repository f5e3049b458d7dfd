// Entries made and deleted one by one, many to a message. Runs on any thread; knows nothing of JavaScript.
#pragma once
#include "conntrack_message.h"
#include "socket.h"
#include <vector>

namespace tortie
{

// What an address and a port (ICMP: the id) become.
struct Translation {
	IpAddress address;
	// Nothing: it stays as it is.
	std::optional<uint16_t> port;
};

struct NewConntrack {
	ConntrackTuple original;
	std::optional<Translation> source;
	std::optional<Translation> destination;
	ConntrackZone zone;
	uint32_t mark = 0;
	// IPS_*; CONFIRMED is added.
	uint32_t status = 0;
	// Seconds.
	uint32_t timeout = 0;
	std::optional<TcpState> tcp;
	std::optional<SctpState> sctp;
};

struct ConntrackKey {
	ConntrackTuple original;
	ConntrackZone zone;
	std::optional<uint32_t> id;
};

// What is to be done with one entry, and what became of it.
template <typename Entry> struct ConntrackJob {
	// What is tried, on what: for errors.
	std::string object;
	Entry entry;
	std::optional<Failure> failure;
	// Entries that were deleted, by which tuple.
	bool deletedOriginal = false;
	bool deletedReply = false;
};

using CreateJob = ConntrackJob<NewConntrack>;
using DeleteJob = ConntrackJob<ConntrackKey>;

// Both leave out jobs that have failed already. A job's failure doesn't stop the others.
void CreateEntries(Socket &socket, std::vector<CreateJob> &jobs, bool replace);
// An entry that isn't there is no failure.
void DeleteEntries(Socket &socket, std::vector<DeleteJob> &jobs);

} // namespace tortie
