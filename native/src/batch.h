// Requests of one batch: read from JavaScript on the main thread, sent on any thread, answers turned into
// results on the main thread.
#pragma once
#include "errors.h"
#include "fd.h"
#include "message.h"
#include "socket.h"
#include <map>
#include <napi.h>
#include <optional>
#include <string>
#include <vector>

namespace tortie
{

// One NetlinkOp on its way to the kernel.
struct Op {
	// What is tried, on what: for errors.
	std::string object;
	// Sent in order; one that fails keeps back those after it.
	std::vector<Message> messages;
	// Devices have other names afterwards: names in later ops are looked up only then.
	bool changesNames = false;
	// Namespaces that the messages refer to, open until they are sent.
	std::vector<Fd> fds;
	std::optional<Failure> failure;
};

class Batch
{
      public:
	// Never throws for one op: what can't be encoded becomes that op's failure and isn't sent.
	explicit Batch(Napi::Value ops);
	// Carries the ops out in order, many to a sendmsg. Any thread.
	void Run(Socket &socket);
	// An array of OpResult.
	Napi::Array Results(Napi::Env env) const;

      private:
	struct Pending;

	std::vector<Op> ops_;
};

} // namespace tortie
