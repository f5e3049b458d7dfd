// What this kernel can, by trying. Three answers, because a refusal for lack of rights says nothing of the
// kernel.
#pragma once
#include "args.h"
#include <functional>
#include <string>

namespace tortie
{

struct ProbeAnswer {
	enum { yes, no, unknown } answer = unknown;
	// Operation and the kernel's words; empty for yes.
	std::string reason;
};

ProbeAnswer ProbeYes();
ProbeAnswer ProbeUnknown(int error, const std::string &what);
// EINVAL and its relatives: the kernel knows what we ask and says it hasn't got it. Anything else (EPERM,
// ENOMEM) is no answer.
ProbeAnswer ProbeRefused(int error, const std::string &what);

// An iterator over the sockets of a protocol (`tcp`, `udp`) may destroy them.
ProbeAnswer ProbeSockDestroy(const std::string &protocol);

// The driver of this device of the thread's namespace runs XDP programs.
ProbeAnswer ProbeXdp(uint32_t ifindex);

// The probes that need a device ({clsact}, {tcx}, {liveFrames}, {link}), which are made in `args.netns` or in
// a network namespace of their own; nothing for another request.
std::function<ProbeAnswer()> ReadDeviceProbe(const Args &args);

} // namespace tortie
