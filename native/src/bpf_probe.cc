// What this kernel can: by trying, never by its version. Three answers, because a refusal for lack of rights
// says nothing of the kernel.
#include "bpf.h"
#include "args.h"
#include "worker.h"
#include <bpf/bpf.h>
#include <cerrno>
#include <cstring>
#include <functional>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <sys/socket.h>
#include <thread>

namespace tortie
{
namespace
{

struct Answer {
	enum { yes, no, unknown } answer = unknown;
	std::string reason;
};

// EINVAL and its relatives: the kernel knows what we ask and says it hasn't got it. Anything else (EPERM,
// ENOMEM) is no answer.
Answer FromErrno(int error, const std::string &what)
{
	Answer answer;
	const char *name = strerrorname_np(error);
	const char *text = strerrordesc_np(error);
	const bool firm =
	    error == EINVAL || error == EOPNOTSUPP || error == ENOSYS || error == ENOENT || error == 524;
	answer.answer = firm ? Answer::no : Answer::unknown;
	answer.reason =
	    what + ": " + (name ? name : std::to_string(error)) + ": " + (text ? text : "unknown error");
	return answer;
}

Answer Yes()
{
	return {Answer::yes, ""};
}

Answer ProbeMap(uint32_t type, uint32_t keySize, uint32_t valueSize, uint32_t flags)
{
	LIBBPF_OPTS(bpf_map_create_opts, options);
	options.map_flags = flags;
	const Fd map(
	    bpf_map_create(static_cast<bpf_map_type>(type), "tortie_probe", keySize, valueSize, 1, &options));
	return map ? Yes() : FromErrno(errno, "create a map");
}

Answer ProbeProgram(uint32_t type)
{
	// r0 = 0; exit
	bpf_insn code[2] = {};
	code[0].code = BPF_ALU64 | BPF_MOV | BPF_K;
	code[1].code = BPF_JMP | BPF_EXIT;
	const Fd program(bpf_prog_load(static_cast<bpf_prog_type>(type), "tortie_probe", "Dual BSD/GPL", code,
				       2, nullptr));
	return program ? Yes() : FromErrno(errno, "load a program");
}

// Sends one route request and returns its errno.
int RouteRequest(int socket, void *request, size_t length)
{
	if (send(socket, request, length, 0) < 0)
		return errno;
	char buffer[4096];
	const ssize_t got = recv(socket, buffer, sizeof(buffer), 0);
	if (got < 0)
		return errno;
	const auto *header = reinterpret_cast<const nlmsghdr *>(buffer);
	if (!NLMSG_OK(header, static_cast<size_t>(got)) || header->nlmsg_type != NLMSG_ERROR)
		return EPROTO;
	return -static_cast<const nlmsgerr *>(NLMSG_DATA(header))->error;
}

struct TcRequest {
	nlmsghdr header = {};
	tcmsg tc = {};
	rtattr kind = {};
	char name[8] = {};
};

TcRequest TcFor(uint16_t type, const char *kind)
{
	TcRequest request;
	request.header.nlmsg_len = sizeof(request);
	request.header.nlmsg_type = type;
	request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
	request.tc.tcm_ifindex = 1; // lo is the first device of every namespace
	request.kind.rta_type = TCA_KIND;
	request.kind.rta_len = sizeof(request.kind) + sizeof(request.name);
	strncpy(request.name, kind, sizeof(request.name) - 1);
	return request;
}

// In a namespace of its own, on a thread of its own that dies with it: nobody's device is touched.
Answer ProbeClsact()
{
	if (unshare(CLONE_NEWNET) != 0) {
		const int error = errno;
		Answer answer = FromErrno(error, "make a network namespace to try clsact in");
		answer.answer = Answer::unknown;
		return answer;
	}
	const Fd route(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
	if (!route)
		return {Answer::unknown, FromErrno(errno, "open a route socket").reason};
	TcRequest qdisc = TcFor(RTM_NEWQDISC, "clsact");
	qdisc.tc.tcm_parent = TC_H_CLSACT;
	qdisc.tc.tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
	if (const int error = RouteRequest(route.get(), &qdisc, sizeof(qdisc)))
		return FromErrno(error, "add a clsact qdisc");
	// Without a program the classifier refuses with EINVAL; ENOENT means that there is no such
	// classifier.
	TcRequest filter = TcFor(RTM_NEWTFILTER, "bpf");
	filter.tc.tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);
	filter.tc.tcm_info = TC_H_MAKE(1 << 16, __builtin_bswap16(0x0003)); // ETH_P_ALL
	const int error = RouteRequest(route.get(), &filter, sizeof(filter));
	return error == EINVAL || error == 0 ? Yes() : FromErrno(error, "add a bpf filter");
}

Answer OnOwnThread(const std::function<Answer()> &probe)
{
	Answer answer;
	std::thread([&] { answer = probe(); }).join();
	return answer;
}

// bpfProbe({map: {type, keySize, valueSize, flags}} | {program: type} | {clsact: true}): Promise<{answer,
// reason?}>
Napi::Value JsProbe(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "bpfProbe", [&]() -> Napi::Value {
		const Args args(info[0], "probe");
		std::function<Answer()> probe;
		if (args.Has("map")) {
			const Args map = args.Object("map");
			probe = [type = map.Number("type"), key = map.Number("keySize"),
				 value = map.Number("valueSize"),
				 flags = map.Number("flags")] { return ProbeMap(type, key, value, flags); };
		} else if (args.Has("program")) {
			probe = [type = args.Number("program")] { return ProbeProgram(type); };
		} else if (args.Flag("clsact")) {
			probe = [] { return OnOwnThread(ProbeClsact); };
		} else {
			args.Fail("map", "must be there, or program, or clsact");
		}
		return OnWorker<Answer>(info.Env(), probe, [](Napi::Env env, Answer &answer) -> Napi::Value {
			static constexpr const char *words[] = {"yes", "no", "unknown"};
			Napi::Object out = Napi::Object::New(env);
			out.Set("answer", words[answer.answer]);
			out.Set("reason", answer.reason);
			return out;
		});
	});
}

} // namespace

void InitBpfProbe(Napi::Env env, Napi::Object exports)
{
	exports.Set("bpfProbe", Napi::Function::New(env, JsProbe, "bpfProbe"));
}

} // namespace tortie
