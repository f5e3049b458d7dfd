#include "flock.h"
#include "args.h"
#include "errors.h"
#include <cerrno>
#include <memory>
#include <sys/file.h>
#include <system_error>
#include <thread>
#include <utility>

namespace tortie
{

namespace
{

// One wait, from the thread back to its promise.
struct Wait {
	Napi::Promise::Deferred deferred;
	std::string object;
	int error = 0;
};

void Settle(Napi::Env env, Napi::Function, std::nullptr_t *, Wait *raw)
{
	const std::unique_ptr<Wait> wait(raw);
	if (env == nullptr)
		return;
	if (wait->error == 0) {
		wait->deferred.Resolve(env.Undefined());
		return;
	}
	Failure failure;
	failure.number = wait->error;
	failure.syscall = "flock";
	failure.object = wait->object;
	wait->deferred.Reject(ToError(env, failure).Value());
}

using Return = Napi::TypedThreadSafeFunction<std::nullptr_t, Wait, Settle>;

void WaitForLock(int fd, Return back, Wait *wait)
{
	int result;
	do
		result = flock(fd, LOCK_EX);
	while (result != 0 && errno == EINTR);
	wait->error = result == 0 ? 0 : errno;
	// Otherwise the environment is gone, and the wait's handle with it.
	if (back.BlockingCall(wait) == napi_ok)
		back.Release();
}

int FdFrom(Napi::Value value)
{
	if (!value.IsNumber() || value.As<Napi::Number>().Int32Value() < 0)
		throw BadArgument("fd", "must be a file descriptor, not " + Describe(value));
	return value.As<Napi::Number>().Int32Value();
}

// flockTry(fd, path): true if the lock is ours now, false if another has it.
Napi::Value FlockTry(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "lock", [&]() -> Napi::Value {
		if (flock(FdFrom(info[0]), LOCK_EX | LOCK_NB) == 0)
			return Napi::Boolean::New(info.Env(), true);
		if (errno != EWOULDBLOCK)
			ThrowErrno("flock", "lock " + info[1].ToString().Utf8Value());
		return Napi::Boolean::New(info.Env(), false);
	});
}

// flockWait(fd, path): a promise of the lock. On a thread of its own: a wait may last, and one in libuv's
// pool would take a thread from everyone and keep the process from exiting.
Napi::Value FlockWait(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "lock", [&]() -> Napi::Value {
		const Napi::Env env = info.Env();
		const int fd = FdFrom(info[0]);
		auto wait = std::make_unique<Wait>(
		    Wait{Napi::Promise::Deferred::New(env), "lock " + info[1].ToString().Utf8Value()});
		const Napi::Promise promise = wait->deferred.Promise();
		Return back = Return::New(env, "flock", 1, 1);
		try {
			std::thread(WaitForLock, fd, back, wait.get()).detach();
		} catch (const std::system_error &error) {
			back.Release();
			errno = error.code().value();
			ThrowErrno("clone", wait->object);
		}
		// It is the thread's now.
		(void)wait.release();
		return promise;
	});
}

} // namespace

void InitFlock(Napi::Env env, Napi::Object exports)
{
	exports.Set("flockTry", Napi::Function::New(env, FlockTry, "flockTry"));
	exports.Set("flockWait", Napi::Function::New(env, FlockWait, "flockWait"));
}

} // namespace tortie
