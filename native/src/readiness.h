// Tells once, on the main thread, that a descriptor can be read. Made with new; frees itself after Close.
#pragma once
#include "socket.h"
#include <memory>
#include <napi.h>
#include <uv.h>

namespace tortie
{

class Readiness
{
      public:
	Readiness(Napi::Env env, std::shared_ptr<Socket> socket);
	// Any descriptor; `owner` keeps it open. `what` is its name for asynchronous hooks.
	Readiness(Napi::Env env, int fd, std::shared_ptr<void> owner, const char *what);
	// Calls `callback` once, in a turn of the event loop of its own.
	void Wait(Napi::Function callback);
	// Forgets the callback, lets go of the descriptor's owner; `this` is gone in the loop's next turn.
	void Close();
	Socket &socket();

      private:
	~Readiness() = default;
	static void OnReadable(uv_poll_t *poll, int status, int events);
	static void OnTeardown(napi_async_cleanup_hook_handle handle, void *self);

	uv_poll_t poll_{};
	Napi::Env env_;
	std::shared_ptr<void> owner_;
	// The owner, where it is one.
	Socket *socket_ = nullptr;
	Napi::FunctionReference callback_;
	std::unique_ptr<Napi::AsyncContext> context_;
	napi_async_cleanup_hook_handle teardown_ = nullptr;
};

} // namespace tortie
