// A grace period: the update of a slot of a map of maps returns when all programs that could see the old map
// have ended (kernel/bpf/syscall.c, maybe_wait_bpf_programs: synchronize_rcu). membarrier(2)'s GLOBAL command
// waits the same way, but is refused where CPUs run without a tick (nohz_full) and returns at once on a
// machine with one CPU, where a preempted program may not have ended.
#include "bpf.h"
#include "worker.h"
#include <bpf/bpf.h>

namespace tortie
{
namespace
{

constexpr char waiting[] = "grace period of BPF programs";

// The maps are nobody else's and go with this call.
bool Wait()
{
	const Fd inner(bpf_map_create(BPF_MAP_TYPE_ARRAY, "tortie_grace_in", 4, 4, 1, nullptr));
	if (!inner)
		ThrowErrno("bpf", waiting);
	LIBBPF_OPTS(bpf_map_create_opts, options);
	options.inner_map_fd = static_cast<uint32_t>(inner.get());
	const Fd outer(bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "tortie_grace", 4, 4, 1, &options));
	if (!outer)
		ThrowErrno("bpf", waiting);
	const uint32_t slot = 0;
	const int map = inner.get();
	if (bpf_map_update_elem(outer.get(), &slot, &map, BPF_ANY) != 0)
		ThrowErrno("bpf", waiting);
	return true;
}

// bpfGrace(): Promise<void>
Napi::Value JsGrace(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "bpfGrace", [&]() -> Napi::Value {
		return OnWorker<bool>(info.Env(), Wait,
				      [](Napi::Env env, bool &) -> Napi::Value { return env.Undefined(); });
	});
}

} // namespace

void InitBpfGrace(Napi::Env env, Napi::Object exports)
{
	exports.Set("bpfGrace", Napi::Function::New(env, JsGrace, "bpfGrace"));
}

} // namespace tortie
