#include "readiness.h"
#include <utility>

namespace tortie
{

Readiness::Readiness(Napi::Env env, std::shared_ptr<Socket> socket)
    : Readiness(env, socket->fd(), socket, "tortie.monitor")
{
	socket_ = socket.get();
}

Readiness::Readiness(Napi::Env env, int fd, std::shared_ptr<void> owner, const char *what)
    : env_(env), owner_(std::move(owner)), context_(std::make_unique<Napi::AsyncContext>(env, what))
{
	uv_loop_t *loop = nullptr;
	napi_get_uv_event_loop(env, &loop);
	if (const int error = uv_poll_init(loop, &poll_, fd)) {
		Failure failure;
		failure.number = -error;
		failure.syscall = "uv_poll_init";
		failure.object = what;
		throw KernelError(failure);
	}
	poll_.data = this;
	// Without it a worker thread that ends with an open monitor would find its loop not empty.
	napi_add_async_cleanup_hook(env, OnTeardown, this, &teardown_);
}

void Readiness::Wait(Napi::Function callback)
{
	callback_ = Napi::Persistent(callback);
	uv_poll_start(&poll_, UV_READABLE, OnReadable);
}

void Readiness::OnReadable(uv_poll_t *poll, int, int)
{
	auto *self = static_cast<Readiness *>(poll->data);
	uv_poll_stop(poll);
	const Napi::HandleScope scope(self->env_);
	const Napi::FunctionReference callback = std::move(self->callback_);
	// `self` may be gone after this.
	try {
		callback.MakeCallback(self->env_.Global(), std::initializer_list<napi_value>{},
				      *self->context_);
	} catch (const Napi::Error &error) {
		napi_fatal_exception(error.Env(), error.Value());
	}
}

void Readiness::OnTeardown(napi_async_cleanup_hook_handle, void *self)
{
	static_cast<Readiness *>(self)->Close();
}

void Readiness::Close()
{
	if (uv_is_closing(reinterpret_cast<uv_handle_t *>(&poll_)))
		return;
	callback_.Reset();
	context_.reset();
	uv_close(reinterpret_cast<uv_handle_t *>(&poll_), [](uv_handle_t *handle) {
		auto *self = static_cast<Readiness *>(handle->data);
		napi_remove_async_cleanup_hook(self->teardown_);
		delete self;
	});
	// The loop has let go of the descriptor by now.
	owner_.reset();
}

Socket &Readiness::socket()
{
	return *socket_;
}

} // namespace tortie
