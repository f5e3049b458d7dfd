// MonitorSocket: what the kernel tells of links, addresses, routes, neighbours and qdiscs in one namespace.
#pragma once
#include "event_reader.h"
#include <memory>
#include <napi.h>

namespace tortie
{

class MonitorSocket : public Napi::ObjectWrap<MonitorSocket>
{
      public:
	static Napi::Function Define(Napi::Env env);
	// new MonitorSocket(groups, netns?)
	explicit MonitorSocket(const Napi::CallbackInfo &info);

      private:
	// wait(callback): calls it once, when there is something to read. Keeps the process alive until then.
	void Wait(const Napi::CallbackInfo &info);
	// read(): what is there, some dozens of datagrams at most, as NetlinkEvents.
	Napi::Value Read(const Napi::CallbackInfo &info);
	void Close(const Napi::CallbackInfo &info);

	std::unique_ptr<EventReader> reader_;
};

void InitMonitor(Napi::Env env, Napi::Object exports);

} // namespace tortie
