// ConntrackSocket: the kernel's connection tracking entries of one namespace, over nfnetlink. Facts:
// linux/netfilter/nfnetlink_conntrack.h.
#pragma once
#include "socket.h"
#include <memory>
#include <napi.h>

namespace tortie
{

class ConntrackSocket : public Napi::ObjectWrap<ConntrackSocket>
{
      public:
	static Napi::Function Define(Napi::Env env);
	// new ConntrackSocket(netns?)
	explicit ConntrackSocket(const Napi::CallbackInfo &info);

      private:
	// deleteOf(addresses): a promise of how many; works on a worker thread, one call at a time.
	Napi::Value DeleteOf(const Napi::CallbackInfo &info);
	void Close(const Napi::CallbackInfo &info);

	std::shared_ptr<Socket> socket_;
};

void InitConntrack(Napi::Env env, Napi::Object exports);

} // namespace tortie
