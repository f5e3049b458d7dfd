// IpsetSocket: the kernel's address sets of one namespace, over nfnetlink. Facts:
// linux/netfilter/ipset/ip_set.h.
#pragma once
#include "socket.h"
#include <memory>
#include <napi.h>

namespace tortie
{

class IpsetSocket : public Napi::ObjectWrap<IpsetSocket>
{
      public:
	static Napi::Function Define(Napi::Env env);
	// new IpsetSocket(netns?)
	explicit IpsetSocket(const Napi::CallbackInfo &info);

      private:
	// Each returns a promise and works on a worker thread; one at a time.
	// list(prefix or names, 'none' | 'digest' | 'members'): an array of {name, type, ..., digest,
	// members}, members one to a line
	Napi::Value List(const Napi::CallbackInfo &info);
	// create(sets): an array of {set, error}
	Napi::Value Create(const Napi::CallbackInfo &info);
	// change('destroy' | 'flush', name) and change('swap', name, other)
	Napi::Value Change(const Napi::CallbackInfo &info);
	// update([{name, add, del}, ...]): an array of {set, member?, error}
	Napi::Value Update(const Napi::CallbackInfo &info);
	void Close(const Napi::CallbackInfo &info);

	std::shared_ptr<Socket> Open() const;

	std::shared_ptr<Socket> socket_;
	uint8_t protocol_ = 0;
};

void InitIpset(Napi::Env env, Napi::Object exports);

} // namespace tortie
