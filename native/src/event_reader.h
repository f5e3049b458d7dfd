// Events of a netlink socket for the main thread: readiness, bounded reading, and what is done when the
// kernel has dropped some.
#pragma once
#include "socket.h"
#include <functional>
#include <memory>
#include <napi.h>
#include <string>
#include <vector>

namespace tortie
{

class Readiness;

// A socket that listens to these groups in the namespace where the thread is now, with so many bytes of
// receive buffer.
std::shared_ptr<Socket> OpenEventSocket(int protocol, const std::vector<int> &groups, int receiveBuffer,
					const std::string &object);

class EventReader
{
      public:
	// `object` is for errors.
	EventReader(Napi::Env env, std::shared_ptr<Socket> socket, std::string object);
	~EventReader();
	EventReader(const EventReader &) = delete;
	EventReader &operator=(const EventReader &) = delete;

	// Calls `callback` once, when there is something to read. Keeps the process alive until then.
	void Wait(Napi::Value callback);
	// Hands out the messages of some dozens of datagrams at most. True: the kernel has dropped events
	// behind those; what it kept beyond them is thrown away, and nothing is missed from now on.
	bool Read(const std::function<void(const nlmsghdr *)> &each);
	void Close();

      private:
	bool Discard();
	bool IsEmpty() const;

	std::string object_;
	// The kernel has dropped events; what is left of the backlog is worthless.
	bool overrun_ = false;
	// Owns itself: libuv frees its handle later than we let go of it.
	Readiness *readiness_ = nullptr;
};

} // namespace tortie
