// A netlink socket: requests with their acknowledgements, and dumps. Used by one thread at a time; knows
// nothing of JavaScript.
#pragma once
#include "errors.h"
#include "message.h"
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace tortie
{

// What the kernel said to one request: errno (0: done) and, for a failure, its own text.
struct Answer {
	int error = 0;
	std::string extack;
	// The failed request as the kernel sends it back, where it does (ipset writes the failing line into
	// it).
	std::vector<uint8_t> request;
};

class Socket
{
      public:
	// In the namespace where the thread is now; it stays in that one.
	static std::shared_ptr<Socket> Open(int protocol);
	~Socket();
	Socket(const Socket &) = delete;
	Socket &operator=(const Socket &) = delete;

	int fd() const;
	// Sends `count` requests that stand back to back in `bytes` (numbers and NLM_F_ACK are set here) and
	// takes all answers. At most `most` requests and `mostBytes` bytes: their answers must fit into the
	// receive buffer.
	static constexpr size_t most = 64;
	static constexpr size_t mostBytes = 32768;
	std::vector<Answer> Exchange(std::span<uint8_t> bytes, size_t count);
	// Sends one request that isn't answered but acknowledged.
	Answer Do(Message message);
	// Sends one request that is answered with one message, and returns that. No acknowledgement is asked
	// for: it would be a second system call.
	std::vector<uint8_t> Get(Message message, const std::string &object);
	// All messages of a dump. One that was interrupted by changes is taken again, up to `dumpTries`
	// times; then EINTR.
	static constexpr int dumpTries = 40;
	std::vector<uint8_t> Dump(Message message, const std::string &object);
	// The same for what may be too long to keep: each message as it comes. Messages of a dump that was
	// interrupted have been handed out, too.
	void DumpEach(Message message, const std::string &object,
		      const std::function<void(const nlmsghdr *)> &each);
	// A dump in parts: asks for it, and returns its number. One at a time; the one before must be at its
	// end.
	uint32_t StartDump(Message &message, const std::string &object);
	// What a part of it, one datagram, said besides what it holds.
	struct DumpPart {
		bool end = false;
		// Changes interrupted it; it goes on to its end all the same.
		bool interrupted = false;
	};
	// Throws what the dump ended with, if that is an error.
	DumpPart NextOfDump(uint32_t sequence, const std::string &object,
			    const std::function<void(const nlmsghdr *)> &each);
	// The ifindex of a device in the socket's namespace, or 0.
	uint32_t IndexOf(const std::string &name);
	// Fills in the ifindexes of devices named in the request; ENODEV names the one that isn't there.
	void Resolve(Message &message, const std::string &object);
	// Hands every message of one datagram to `each`; false when there is none. Throws on errors of the
	// socket itself.
	bool Receive(const std::function<void(const nlmsghdr *)> &each, const std::string &object);

      private:
	explicit Socket(mnl_socket *socket);
	bool DumpOnce(Message &message, const std::string &object,
		      const std::function<void(const nlmsghdr *)> &each);
	void UntilWhole(const std::string &object, const std::function<bool()> &dump);

	mnl_socket *socket_;
	uint32_t sequence_ = 0;
};

} // namespace tortie
