// The addon's entry. Nothing here or below is global to the process: Jest loads several copies into one.
#include "bpf.h"
#include "conntrack.h"
#include "flock.h"
#include "ipset.h"
#include "monitor.h"
#include "netns.h"
#include "nftables.h"
#include "route_socket.h"
#include "scratch_netns.h"
#include <napi.h>

using Init = void (*)(Napi::Env env, Napi::Object exports);

static constexpr Init parts[] = {
    tortie::InitBpf,	   tortie::InitNetns,	 tortie::InitRouteSocket,
    tortie::InitIpset,	   tortie::InitMonitor,	 tortie::InitFlock,
    tortie::InitConntrack, tortie::InitNftables, tortie::InitScratchNetns,
};

static Napi::Object InitAddon(Napi::Env env, Napi::Object exports)
{
	for (const Init init : parts)
		init(env, exports);
	return exports;
}

NODE_API_MODULE(tortie_native, InitAddon)
