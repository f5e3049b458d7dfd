// What this kernel can: by trying, never by its version. Three answers, because a refusal for lack of rights
// says nothing of the kernel.
#include "probe.h"
#include "args.h"
#include "bpf.h"
#include "own_thread.h"
#include "worker.h"
#include <bpf/bpf.h>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <functional>

namespace tortie
{
namespace
{

ProbeAnswer ProbeMap(uint32_t type, uint32_t keySize, uint32_t valueSize, uint32_t flags, uint32_t entries)
{
	LIBBPF_OPTS(bpf_map_create_opts, options);
	options.map_flags = flags;
	const Fd map(bpf_map_create(static_cast<bpf_map_type>(type), "tortie_probe", keySize, valueSize,
				    entries, &options));
	return map ? ProbeYes() : ProbeRefused(errno, "create a map");
}

// Returns 1, the only value that the verifier takes from every type of program (receiving must not be
// refused).
constexpr bpf_insn nothing[] = {
    {BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 1},
    {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
};

struct ProgramToTry {
	uint32_t type = 0;
	uint32_t attachType = 0;
	bool sleepable = false;
};

ProbeAnswer ProbeProgram(const ProgramToTry &wanted)
{
	LIBBPF_OPTS(bpf_prog_load_opts, options);
	options.expected_attach_type = static_cast<bpf_attach_type>(wanted.attachType);
	options.prog_flags = wanted.sleepable ? BPF_F_SLEEPABLE : 0;
	const Fd program(bpf_prog_load(static_cast<bpf_prog_type>(wanted.type), "tortie_probe",
				       "Dual BSD/GPL", nothing, std::size(nothing), &options));
	return program ? ProbeYes() : ProbeRefused(errno, "load a program");
}

// The verifier looks up the helper before its arguments: whatever else it says, it knows the helper.
ProbeAnswer ProbeHelper(uint32_t programType, uint32_t helper)
{
	const bpf_insn call[] = {
	    {BPF_JMP | BPF_CALL, 0, 0, 0, static_cast<int32_t>(helper)},
	    {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
	};
	char log[4096] = "";
	LIBBPF_OPTS(bpf_prog_load_opts, options);
	options.log_buf = log;
	options.log_size = sizeof(log);
	options.log_level = 1;
	const Fd program(bpf_prog_load(static_cast<bpf_prog_type>(programType), "tortie_probe",
				       "Dual BSD/GPL", call, std::size(call), &options));
	const int error = errno;
	if (program)
		return ProbeYes();
	for (const char *words :
	     {"invalid func ", "unknown func ", "program of this type cannot use helper "})
		if (const char *found = strstr(log, words))
			return {ProbeAnswer::no,
				"the verifier says: " + std::string(found, strcspn(found, "\n"))};
	// Without a word from the verifier it never came to the call.
	return log[0] != '\0' ? ProbeYes() : ProbeUnknown(error, "load a program");
}

// Reading the list of attached programs changes nothing, and is refused where none can be attached.
ProbeAnswer ProbeCgroup(const std::string &path, uint32_t attachType)
{
	const Fd cgroup(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (!cgroup)
		return ProbeUnknown(errno, "open " + path);
	uint32_t ids[64];
	uint32_t flags = 0;
	uint32_t count = std::size(ids);
	if (bpf_prog_query(cgroup.get(), static_cast<bpf_attach_type>(attachType), 0, &flags, ids, &count) ==
		0 ||
	    errno == ENOSPC)
		return ProbeYes();
	return ProbeRefused(errno, "list the programs of cgroup " + path);
}

// A namespace that can't be entered is no answer.
ProbeAnswer ProbeXdpIn(const std::optional<std::string> &netns, uint32_t ifindex)
{
	try {
		return WorkInNetns<ProbeAnswer>(netns, [ifindex] { return ProbeXdp(ifindex); });
	} catch (const KernelError &error) {
		return ProbeUnknown(error.failure.number, error.failure.object);
	}
}

std::function<ProbeAnswer()> ReadProbe(const Args &args)
{
	if (args.Has("map")) {
		const Args map = args.Object("map");
		return
		    [type = map.Number("type"), key = map.Number("keySize"), value = map.Number("valueSize"),
		     flags = map.Number("flags"), entries = map.OptionalNumber("entries", 1).value_or(1)] {
			    return ProbeMap(type, key, value, flags, entries);
		    };
	}
	if (args.Has("helper"))
		return [type = args.Number("program"), helper = args.Number("helper")] {
			return ProbeHelper(type, helper);
		};
	if (args.Has("program"))
		return [wanted = ProgramToTry{args.Number("program"),
					      args.OptionalNumber("attachType").value_or(0),
					      args.Flag("sleepable")}] { return ProbeProgram(wanted); };
	if (args.Has("cgroup"))
		return [path = args.String("cgroup"), type = args.Number("attachType")] {
			return ProbeCgroup(path, type);
		};
	if (args.Has("sockDestroy")) {
		const std::string protocol = args.String("sockDestroy", 3);
		if (protocol != "tcp" && protocol != "udp")
			args.Fail("sockDestroy", "must be tcp or udp");
		return [protocol] { return ProbeSockDestroy(protocol); };
	}
	if (args.Has("xdp"))
		return [ifindex = args.Number("xdp", 1, INT32_MAX), netns = args.OptionalNetns("netns")] {
			return ProbeXdpIn(netns, ifindex);
		};
	const auto device = ReadDeviceProbe(args);
	if (!device)
		args.Fail("map", "must be there, or helper, program, cgroup, sockDestroy, xdp, clsact, tcx, "
				 "liveFrames or link");
	return device;
}

// bpfProbe({map} | {program} | ...: ProbeRequest of native/bpf.ts): Promise<{answer, reason?}>
Napi::Value JsProbe(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "bpfProbe", [&]() -> Napi::Value {
		const std::function<ProbeAnswer()> probe = ReadProbe(Args(info[0], "probe"));
		return OnWorker<ProbeAnswer>(
		    info.Env(), probe, [](Napi::Env env, ProbeAnswer &answer) -> Napi::Value {
			    static constexpr const char *words[] = {"yes", "no", "unknown"};
			    Napi::Object out = Napi::Object::New(env);
			    out.Set("answer", words[answer.answer]);
			    out.Set("reason", answer.reason);
			    return out;
		    });
	});
}

std::string Words(int error, const std::string &what)
{
	const char *name = strerrorname_np(error);
	const char *text = strerrordesc_np(error);
	return what + ": " + (name ? name : std::to_string(error)) + ": " + (text ? text : "unknown error");
}

} // namespace

ProbeAnswer ProbeYes()
{
	return {ProbeAnswer::yes, ""};
}

ProbeAnswer ProbeUnknown(int error, const std::string &what)
{
	return {ProbeAnswer::unknown, Words(error, what)};
}

ProbeAnswer ProbeRefused(int error, const std::string &what)
{
	// 524: ENOTSUPP, which has no name outside the kernel.
	const bool firm =
	    error == EINVAL || error == EOPNOTSUPP || error == ENOSYS || error == ENOENT || error == 524;
	return {firm ? ProbeAnswer::no : ProbeAnswer::unknown, Words(error, what)};
}

void InitBpfProbe(Napi::Env env, Napi::Object exports)
{
	exports.Set("bpfProbe", Napi::Function::New(env, JsProbe, "bpfProbe"));
}

} // namespace tortie
