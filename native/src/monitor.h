// MonitorSocket: what the kernel tells of links, addresses, routes, neighbours and qdiscs in one namespace.
#pragma once
#include <napi.h>

namespace tortie
{

class Readiness;

class MonitorSocket : public Napi::ObjectWrap<MonitorSocket>
{
      public:
	static Napi::Function Define(Napi::Env env);
	// new MonitorSocket(groups, netns?)
	explicit MonitorSocket(const Napi::CallbackInfo &info);
	~MonitorSocket() override;

      private:
	// wait(callback): calls it once, when there is something to read. Keeps the process alive until then.
	void Wait(const Napi::CallbackInfo &info);
	// read(): what is there, some dozens of datagrams at most, as NetlinkEvents.
	Napi::Value Read(const Napi::CallbackInfo &info);
	void Close(const Napi::CallbackInfo &info);
	void Close();
	bool Discard();

	// The kernel has dropped events; what is left of the backlog is worthless.
	bool overrun_ = false;
	// Owns itself: libuv frees its handle later than we let go of it.
	Readiness *readiness_ = nullptr;
};

void InitMonitor(Napi::Env env, Napi::Object exports);

} // namespace tortie
