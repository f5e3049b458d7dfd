// Network namespaces. A namespace is entered only inside one synchronous call, on the calling thread, which
// leaves it before it returns.
#pragma once
#include "errors.h"
#include "fd.h"
#include <napi.h>
#include <optional>
#include <string>
#include <vector>

namespace tortie
{

// Opens a namespace file; a KernelError names the path, also when the file is no network namespace.
Fd OpenNetns(const std::string &path);

// The calling thread is in another namespace while this lives. If the way back is barred the process is
// ended: a thread of the agent in a pod's namespace would program the wrong kernel tables from then on.
class NetnsVisit
{
      public:
	explicit NetnsVisit(const std::string &path);
	~NetnsVisit();
	NetnsVisit(const NetnsVisit &) = delete;
	NetnsVisit &operator=(const NetnsVisit &) = delete;

      private:
	Fd home_;
};

// Runs `body` in the namespace, or where the thread is if there is no path.
template <typename Body> auto InNetns(const std::optional<std::string> &path, Body body)
{
	std::optional<NetnsVisit> visit;
	if (path)
		visit.emplace(*path);
	return body();
}

// One sysctl to write, and what became of it.
struct SysctlWrite {
	std::string path;
	std::string value;
	bool written = false;
	std::optional<Failure> failure;
};

// From an array of {path, value}; an entry that can't be used carries its failure. Reads JavaScript, so not
// inside a visit.
std::vector<SysctlWrite> ReadSysctls(Napi::Value list);
// Writes them where the thread is; each keeps its own failure.
void WriteSysctls(std::vector<SysctlWrite> &writes);
// An array of SysctlResult.
Napi::Array SysctlResults(Napi::Env env, const std::vector<SysctlWrite> &writes);

void InitNetns(Napi::Env env, Napi::Object exports);

} // namespace tortie
