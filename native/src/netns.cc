#include "netns.h"
#include "args.h"
#include "errors.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

namespace tortie
{

Fd OpenNetns(const std::string &path)
{
	const std::string object = "netns " + path;
	// O_NONBLOCK: a FIFO given by mistake must not hang the process.
	Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
	if (!fd)
		ThrowErrno("open", object);
	if (ioctl(fd.get(), NS_GET_NSTYPE) != CLONE_NEWNET) {
		Failure failure;
		failure.number = EINVAL;
		failure.syscall = "ioctl";
		failure.object = object;
		failure.text = "not a network namespace";
		throw KernelError(failure);
	}
	return fd;
}

NetnsVisit::NetnsVisit(const std::string &path)
{
	const Fd target = OpenNetns(path);
	Fd home(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
	if (!home)
		ThrowErrno("open", "netns /proc/thread-self/ns/net");
	if (setns(target.get(), CLONE_NEWNET) != 0)
		ThrowErrno("setns", "netns " + path);
	home_ = std::move(home);
}

NetnsVisit::~NetnsVisit()
{
	if (setns(home_.get(), CLONE_NEWNET) == 0)
		return;
	fprintf(stderr,
		"tortie: can't go back to the own network namespace (setns: %s); ending the process\n",
		strerrordesc_np(errno));
	abort();
}

static std::string Trimmed(std::string text)
{
	while (!text.empty() && (text.back() == '\n' || text.back() == ' ' || text.back() == '\t'))
		text.pop_back();
	// The kernel separates the numbers of a vector by tabs and takes spaces.
	for (char &c : text)
		if (c == '\t')
			c = ' ';
	return text;
}

// True if it was written, false if it had the value.
static bool WriteSysctl(const std::string &path, const std::string &value)
{
	const std::string object = "sysctl " + path + "=" + value;
	const std::string file = "/proc/sys/" + path;
	{
		const Fd in(open(file.c_str(), O_RDONLY | O_CLOEXEC));
		char buffer[4096];
		// Some can only be written (net/ipv4/route/flush): not readable isn't a failure yet.
		const ssize_t length = in ? read(in.get(), buffer, sizeof(buffer)) : -1;
		if (length >= 0 && Trimmed(std::string(buffer, length)) == Trimmed(value))
			return false;
	}
	const Fd out(open(file.c_str(), O_WRONLY | O_CLOEXEC));
	if (!out)
		ThrowErrno("open", object);
	const ssize_t written = write(out.get(), value.data(), value.size());
	if (written < 0)
		ThrowErrno("write", object);
	return true;
}

static constexpr uint32_t maxSysctls = 100000;

// Only names below /proc/sys.
static void CheckSysctlPath(const Args &entry, const std::string &path)
{
	if (path.front() == '/' || ("/" + path + "/").find("/../") != std::string::npos)
		entry.Fail("path",
			   "'" + path + "' must be a name below /proc/sys such as net/ipv4/ip_forward");
}

std::vector<SysctlWrite> ReadSysctls(Napi::Value list)
{
	if (!list.IsArray())
		throw BadArgument("sysctls", "must be an array, not " + Describe(list));
	const auto entries = list.As<Napi::Array>();
	if (entries.Length() > maxSysctls)
		throw BadArgument("sysctls", "must have " + std::to_string(maxSysctls) + " entries at most");
	std::vector<SysctlWrite> writes(entries.Length());
	for (uint32_t i = 0; i < writes.size(); i++) {
		SysctlWrite &write = writes[i];
		try {
			const Args entry(entries.Get(i), "sysctls[" + std::to_string(i) + "]");
			write.path = entry.String("path", 512);
			CheckSysctlPath(entry, write.path);
			write.value = entry.String("value", 4000);
		} catch (const BadArgument &bad) {
			write.failure = FailureOf(bad, "sysctl " + write.path);
		}
	}
	return writes;
}

void WriteSysctls(std::vector<SysctlWrite> &writes)
{
	for (SysctlWrite &write : writes) {
		if (write.failure)
			continue;
		try {
			write.written = WriteSysctl(write.path, write.value);
		} catch (const KernelError &error) {
			write.failure = error.failure;
		}
	}
}

Napi::Array SysctlResults(Napi::Env env, const std::vector<SysctlWrite> &writes)
{
	Napi::Array results = Napi::Array::New(env, writes.size());
	for (uint32_t i = 0; i < writes.size(); i++) {
		const SysctlWrite &write = writes[i];
		Napi::Object result = Napi::Object::New(env);
		result.Set("path", write.path);
		result.Set("status", write.failure ? "failed" : write.written ? "written" : "unchanged");
		if (write.failure)
			result.Set("error", ToError(env, *write.failure).Value());
		results.Set(i, result);
	}
	return results;
}

// writeSysctls(sysctls, netns?)
static Napi::Value JsWriteSysctls(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "writeSysctls", [&]() -> Napi::Value {
		const auto netns = NetnsFromValue(info[1], "netns");
		auto writes = ReadSysctls(info[0]);
		InNetns(netns, [&] { WriteSysctls(writes); });
		return SysctlResults(info.Env(), writes);
	});
}

// netnsInode(netns?)
static Napi::Value JsNetnsInode(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "netnsInode", [&]() -> Napi::Value {
		const std::string path =
		    NetnsFromValue(info[0], "netns").value_or("/proc/thread-self/ns/net");
		const Fd fd = OpenNetns(path);
		struct stat status;
		if (fstat(fd.get(), &status) != 0)
			ThrowErrno("fstat", "netns " + path);
		return Napi::Number::New(info.Env(), static_cast<double>(status.st_ino));
	});
}

void InitNetns(Napi::Env env, Napi::Object exports)
{
	exports.Set("writeSysctls", Napi::Function::New(env, JsWriteSysctls, "writeSysctls"));
	exports.Set("netnsInode", Napi::Function::New(env, JsNetnsInode, "netnsInode"));
}

} // namespace tortie
