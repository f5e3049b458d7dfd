// What a datagram over loopback shows of tracking and translation in a namespace.
#include "args.h"
#include "conntrack_objects.h"
#include "conntrack_writes.h"
#include "fd.h"
#include "netns.h"
#include "worker.h"
#include <arpa/inet.h>
#include <cstring>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>

namespace tortie
{

namespace
{

// It arrives within sendto, but for a busy softirq.
constexpr int waitMs = 200;
// Of the entry, in case that deleting it fails.
constexpr uint32_t entrySeconds = 5;

// Opened in the namespace; the rest is done anywhere.
struct Probe {
	std::shared_ptr<Socket> netlink;
	Fd sender;
	// Where the datagram is sent to, and where it arrives when it is translated.
	Fd plain;
	Fd translated;
};

struct Proof {
	const char *state;
	std::string reason;
};

Fd OpenUdp(int family)
{
	const int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		ThrowErrno("socket", "conntrack.proveNat");
	return Fd(fd);
}

IpAddress Loopback(int family)
{
	return *ParseAddress(family == AF_INET ? "127.0.0.1" : "::1");
}

sockaddr_storage SocketAddress(const IpAddress &address, uint16_t port)
{
	sockaddr_storage storage{};
	storage.ss_family = static_cast<sa_family_t>(address.family);
	if (address.family == AF_INET) {
		auto *in = reinterpret_cast<sockaddr_in *>(&storage);
		in->sin_port = htons(port);
		memcpy(&in->sin_addr, address.bytes.data(), address.size());
	} else {
		auto *in = reinterpret_cast<sockaddr_in6 *>(&storage);
		in->sin6_port = htons(port);
		memcpy(&in->sin6_addr, address.bytes.data(), address.size());
	}
	return storage;
}

// Binds it to a port of loopback, which is returned.
uint16_t BindToLoopback(const Fd &fd, int family)
{
	sockaddr_storage address = SocketAddress(Loopback(family), 0);
	socklen_t length = sizeof(address);
	if (bind(fd.get(), reinterpret_cast<sockaddr *>(&address), sizeof(address)) != 0)
		ThrowErrno("bind", "conntrack.proveNat");
	if (getsockname(fd.get(), reinterpret_cast<sockaddr *>(&address), &length) != 0)
		ThrowErrno("getsockname", "conntrack.proveNat");
	return ntohs(family == AF_INET ? reinterpret_cast<sockaddr_in *>(&address)->sin_port
				       : reinterpret_cast<sockaddr_in6 *>(&address)->sin6_port);
}

// True if this very datagram is there; others are thrown away.
bool Got(const Fd &fd, uint64_t word)
{
	uint64_t got = 0;
	ssize_t length;
	while ((length = recv(fd.get(), &got, sizeof(got), 0)) >= 0)
		if (length == sizeof(got) && got == word)
			return true;
	return false;
}

Proof SendAndLook(const Probe &probe, const IpAddress &to, uint16_t port)
{
	uint64_t word = 0;
	if (getrandom(&word, sizeof(word), 0) != sizeof(word))
		ThrowErrno("getrandom", "conntrack.proveNat");
	const sockaddr_storage address = SocketAddress(to, port);
	if (sendto(probe.sender.get(), &word, sizeof(word), 0, reinterpret_cast<const sockaddr *>(&address),
		   sizeof(address)) < 0)
		return {"unknown", std::string("loopback takes no datagram: ") + strerrordesc_np(errno)};
	pollfd places[] = {{probe.plain.get(), POLLIN, 0}, {probe.translated.get(), POLLIN, 0}};
	poll(places, std::size(places), waitMs);
	if (Got(probe.translated, word))
		return {"active", ""};
	if (Got(probe.plain, word))
		return {"inactive", ""};
	return {"unknown", "a datagram over loopback didn't arrive within " + std::to_string(waitMs) + " ms"};
}

Proof Prove(const Probe &probe, int family)
{
	const IpAddress loopback = Loopback(family);
	uint16_t from;
	uint16_t plain;
	uint16_t translated;
	try {
		from = BindToLoopback(probe.sender, family);
		plain = BindToLoopback(probe.plain, family);
		translated = BindToLoopback(probe.translated, family);
	} catch (const KernelError &error) {
		if (error.failure.number != EADDRNOTAVAIL)
			throw;
		return {"unknown", "loopback has no address " + AddressText(family, loopback.bytes.data())};
	}
	std::vector<CreateJob> created(1);
	created[0].object = "conntrack.proveNat";
	NewConntrack &entry = created[0].entry;
	entry.original = {loopback, loopback, IPPROTO_UDP, from, plain};
	entry.destination = {loopback, translated};
	// Rules usually let pass what is established.
	entry.status = IPS_SEEN_REPLY | IPS_ASSURED;
	entry.timeout = entrySeconds;
	CreateEntries(*probe.netlink, created, true);
	if (created[0].failure)
		throw KernelError(*created[0].failure);
	const Proof proof = SendAndLook(probe, loopback, plain);
	std::vector<DeleteJob> deleted(1);
	deleted[0].object = "conntrack.proveNat";
	deleted[0].entry.original = entry.original;
	DeleteEntries(*probe.netlink, deleted);
	if (deleted[0].failure)
		throw KernelError(*deleted[0].failure);
	return proof;
}

// proveNat(family, netns?): a promise of NatProof
Napi::Value JsProveNat(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "conntrack.proveNat", [&]() -> Napi::Value {
		const uint32_t version = info[0].IsNumber() ? info[0].As<Napi::Number>().Uint32Value() : 0;
		if (version != 4 && version != 6)
			throw BadArgument("family", "must be 4 or 6, not " + Describe(info[0]));
		const int family = version == 4 ? AF_INET : AF_INET6;
		const auto netns = NetnsFromValue(info[1], "netns");
		const auto probe = std::make_shared<Probe>(InNetns(netns, [family] {
			return Probe{Socket::Open(NETLINK_NETFILTER), OpenUdp(family), OpenUdp(family),
				     OpenUdp(family)};
		}));
		return OnWorker<Proof>(
		    info.Env(), [probe, family] { return Prove(*probe, family); },
		    [](Napi::Env env, Proof &proof) -> Napi::Value {
			    Napi::Object out = Napi::Object::New(env);
			    out.Set("state", proof.state);
			    if (!proof.reason.empty())
				    out.Set("reason", proof.reason);
			    return out;
		    });
	});
}

} // namespace

void InitNatProof(Napi::Env env, Napi::Object exports)
{
	exports.Set("proveNat", Napi::Function::New(env, JsProveNat, "proveNat"));
}

} // namespace tortie
