// RouteSocket: what JavaScript holds of a namespace's rtnetlink. It is two kernel sockets: a synchronous call
// never waits for a batch that deletes links on a worker thread.
#pragma once
#include "socket.h"
#include <memory>
#include <napi.h>

namespace tortie
{

class RouteSocket : public Napi::ObjectWrap<RouteSocket>
{
      public:
	static Napi::Function Define(Napi::Env env);
	// new RouteSocket(netns?, sysctls?): enters the namespace once, writes the sysctls there and opens
	// the sockets; what became of the sysctls is the property `sysctls`.
	explicit RouteSocket(const Napi::CallbackInfo &info);

      private:
	// prepare(ops): the encoded batch.
	Napi::Value Prepare(const Napi::CallbackInfo &info);
	// sendSync(batch): OpResult[].
	Napi::Value SendSync(const Napi::CallbackInfo &info);
	// send(batch): promise of OpResult[]. One send or dump at a time.
	Napi::Value Send(const Napi::CallbackInfo &info);
	// link(ref): Link or undefined.
	Napi::Value Link(const Napi::CallbackInfo &info);
	// dump(kind, filter): promise of an array.
	Napi::Value Dump(const Napi::CallbackInfo &info);
	// dumpSync(kind, filter): an array. For what is short.
	Napi::Value DumpSync(const Napi::CallbackInfo &info);
	void Close(const Napi::CallbackInfo &info);

	const std::shared_ptr<Socket> &Open(const std::shared_ptr<Socket> &socket) const;

	std::shared_ptr<Socket> sync_;
	std::shared_ptr<Socket> worker_;
};

void InitRouteSocket(Napi::Env env, Napi::Object exports);

} // namespace tortie
