#include "event_reader.h"
#include "readiness.h"
#include <cerrno>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <utility>

namespace tortie
{

// Datagrams per wake-up: some 100 us of decoding; then the event loop has its turn.
static constexpr int datagramsPerRead = 64;
// Unread ones cost less.
static constexpr int discardsPerRead = 1024;

std::shared_ptr<Socket> OpenEventSocket(int protocol, const std::vector<int> &groups, int receiveBuffer,
					const std::string &object)
{
	auto socket = Socket::Open(protocol);
	// FORCE goes beyond net.core.rmem_max and needs CAP_NET_ADMIN.
	if (setsockopt(socket->fd(), SOL_SOCKET, SO_RCVBUFFORCE, &receiveBuffer, sizeof(receiveBuffer)) != 0)
		setsockopt(socket->fd(), SOL_SOCKET, SO_RCVBUF, &receiveBuffer, sizeof(receiveBuffer));
	for (const int group : groups)
		if (setsockopt(socket->fd(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) != 0)
			ThrowErrno("setsockopt", object + " group " + std::to_string(group));
	return socket;
}

EventReader::EventReader(Napi::Env env, std::shared_ptr<Socket> socket, std::string object)
    : object_(std::move(object)), readiness_(new Readiness(env, std::move(socket)))
{
}

EventReader::~EventReader()
{
	Close();
}

void EventReader::Wait(Napi::Value callback)
{
	if (!callback.IsFunction())
		throw BadArgument("callback", "must be a function");
	if (readiness_)
		readiness_->Wait(callback.As<Napi::Function>());
}

bool EventReader::Read(const std::function<void(const nlmsghdr *)> &each)
{
	if (!readiness_)
		return false;
	try {
		for (int i = 0; !overrun_ && i < datagramsPerRead; i++)
			if (!readiness_->socket().Receive(each, object_))
				return false;
	} catch (const KernelError &error) {
		if (error.failure.number != ENOBUFS)
			throw;
		overrun_ = true;
	}
	// From an overrun on the kernel drops everything, and doesn't say so again, until the backlog is
	// read. Only then is it reported: whoever compares everything after that misses nothing.
	if (!overrun_ || !Discard())
		return false;
	overrun_ = false;
	return true;
}

// False while there is more to throw away.
bool EventReader::Discard()
{
	for (int i = 0; i < discardsPerRead; i++) {
		try {
			if (!readiness_->socket().Receive([](const nlmsghdr *) {}, object_))
				return true;
		} catch (const KernelError &error) {
			if (error.failure.number != ENOBUFS)
				throw;
		}
	}
	// If this was the last one nothing would wake us.
	return IsEmpty();
}

bool EventReader::IsEmpty() const
{
	char byte;
	return recv(readiness_->socket().fd(), &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT) < 0 &&
	       errno == EAGAIN;
}

void EventReader::Close()
{
	if (readiness_)
		std::exchange(readiness_, nullptr)->Close();
}

} // namespace tortie
