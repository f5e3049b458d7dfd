#include "scratch_netns.h"
#include "errors.h"
#include "fd.h"
#include "worker.h"
#include <cerrno>
#include <fcntl.h>
#include <sched.h>
#include <thread>

namespace tortie
{
namespace
{

// Only a descriptor keeps it alive: the thread that made it ends, and no name is given to it, so that nothing
// is left whatever becomes of the process.
Fd MakeNetns()
{
	Fd fd;
	int error = 0;
	const char *syscall = "";
	std::thread([&] {
		if (unshare(CLONE_NEWNET) != 0) {
			error = errno;
			syscall = "unshare";
			return;
		}
		fd = Fd(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
		if (!fd) {
			error = errno;
			syscall = "open";
		}
	}).join();
	if (error != 0) {
		errno = error;
		ThrowErrno(syscall, "a new network namespace");
	}
	return fd;
}

// makeNetns(): Promise<number>, the caller's to close.
Napi::Value JsMakeNetns(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "makeNetns", [&]() -> Napi::Value {
		return OnWorker<Fd>(info.Env(), MakeNetns, [](Napi::Env env, Fd &fd) {
			return Napi::Number::New(env, fd.release());
		});
	});
}

} // namespace

void InitScratchNetns(Napi::Env env, Napi::Object exports)
{
	exports.Set("makeNetns", Napi::Function::New(env, JsMakeNetns, "makeNetns"));
}

} // namespace tortie
