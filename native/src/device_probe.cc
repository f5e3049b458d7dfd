// Probes that need a device: in a network namespace of their own, or one made for probing, on a thread of
// their own that dies with it. Nobody's device is touched.
#include "batch.h"
#include "bpf.h"
#include "message.h"
#include "netns.h"
#include "probe.h"
#include "socket.h"
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <cerrno>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <thread>

namespace tortie
{
namespace
{

// The first device of every namespace.
constexpr int loopback = 1;
// linux/bpf.h from Linux 6.6 on.
constexpr int tcxIngress = 46;
// linux/bpf.h from Linux 5.18 on: BPF_F_TEST_XDP_LIVE_FRAMES.
constexpr uint32_t liveFramesFlag = 1U << 1;

constexpr uint16_t create = NLM_F_CREATE | NLM_F_EXCL;

std::string KernelWords(const Answer &answer, const std::string &what)
{
	return answer.extack.empty() ? what : what + " (" + answer.extack + ")";
}

ProbeAnswer FromAnswer(const Answer &answer, const std::string &what)
{
	return answer.error == 0 ? ProbeYes() : ProbeRefused(answer.error, KernelWords(answer, what));
}

tcmsg *TcHeader(MessageWriter &request, uint32_t parent)
{
	auto *tc = request.Fixed<tcmsg>();
	tc->tcm_ifindex = loopback;
	tc->tcm_parent = parent;
	return tc;
}

ProbeAnswer ProbeClsact()
{
	const auto socket = Socket::Open(NETLINK_ROUTE);
	MessageWriter qdisc(RTM_NEWQDISC, create);
	TcHeader(qdisc, TC_H_CLSACT)->tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
	qdisc.PutString(TCA_KIND, "clsact");
	const Answer made = socket->Do(qdisc.Finish());
	if (made.error != 0)
		return FromAnswer(made, "add a clsact qdisc");
	// Without a program the classifier refuses with EINVAL; ENOENT means that there is no such
	// classifier.
	MessageWriter filter(RTM_NEWTFILTER, create);
	TcHeader(filter, TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS))->tcm_info =
	    TC_H_MAKE(1 << 16, htons(ETH_P_ALL));
	filter.PutString(TCA_KIND, "bpf");
	const Answer refused = socket->Do(filter.Finish());
	return refused.error == EINVAL ? ProbeYes() : FromAnswer(refused, "add a bpf filter");
}

// A program that returns `verdict` at once.
Fd LoadVerdict(bpf_prog_type type, int32_t verdict)
{
	const bpf_insn code[] = {
	    {BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, verdict},
	    {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
	};
	return Fd(bpf_prog_load(type, "tortie_probe", "Dual BSD/GPL", code, std::size(code), nullptr));
}

ProbeAnswer ProbeTcx()
{
	const Fd program = LoadVerdict(BPF_PROG_TYPE_SCHED_CLS, 0);
	if (!program)
		return ProbeRefused(errno, "load a program");
	const Fd link(
	    bpf_link_create(program.get(), loopback, static_cast<bpf_attach_type>(tcxIngress), nullptr));
	return link ? ProbeYes() : ProbeRefused(errno, "attach a tcx link");
}

ProbeAnswer ProbeLiveFrames()
{
	const Fd program = LoadVerdict(BPF_PROG_TYPE_XDP, XDP_DROP);
	if (!program)
		return ProbeRefused(errno, "load a program");
	const uint8_t frame[ETH_ZLEN] = {};
	LIBBPF_OPTS(bpf_test_run_opts, options);
	options.data_in = frame;
	options.data_size_in = sizeof(frame);
	options.flags = liveFramesFlag;
	options.repeat = 1;
	return bpf_prog_test_run_opts(program.get(), &options) == 0
		   ? ProbeYes()
		   : ProbeRefused(errno, "run a program with live frames");
}

ProbeAnswer ProbeLink(const std::string &kind)
{
	MessageWriter request(RTM_NEWLINK, create);
	request.Fixed<ifinfomsg>();
	request.PutString(IFLA_IFNAME, "probe%d"); // The kernel counts: others may be made at the same time.
	nlattr *info = request.Nest(IFLA_LINKINFO);
	request.PutString(IFLA_INFO_KIND, kind);
	if (kind == "vxlan") {
		nlattr *data = request.Nest(IFLA_INFO_DATA);
		request.PutU32(IFLA_VXLAN_ID, 1);
		const uint16_t port = htons(4789);
		request.Put(IFLA_VXLAN_PORT, &port, sizeof(port));
		request.EndNest(data);
	}
	request.EndNest(info);
	return FromAnswer(Socket::Open(NETLINK_ROUTE)->Do(request.Finish()), "make a " + kind + " device");
}

// Enters the namespace for good: the thread ends with the probe.
void EnterForGood(const std::optional<std::string> &netns)
{
	if (!netns) {
		if (unshare(CLONE_NEWNET) != 0)
			ThrowErrno("unshare", "a network namespace to try it in");
		return;
	}
	const Fd target = OpenNetns(*netns);
	if (setns(target.get(), CLONE_NEWNET) != 0)
		ThrowErrno("setns", "netns " + *netns);
}

ProbeAnswer OnOwnThread(const std::optional<std::string> &netns, const std::function<ProbeAnswer()> &probe)
{
	ProbeAnswer answer;
	std::thread([&] {
		try {
			EnterForGood(netns);
			answer = probe();
		} catch (const KernelError &error) {
			answer = ProbeUnknown(error.failure.number,
					      error.failure.syscall + " of " + error.failure.object);
		} catch (const std::exception &error) {
			answer = {ProbeAnswer::unknown, error.what()};
		}
	}).join();
	return answer;
}

std::function<ProbeAnswer()> DeviceProbe(const Args &args)
{
	if (args.Flag("clsact"))
		return ProbeClsact;
	if (args.Flag("tcx"))
		return ProbeTcx;
	if (args.Flag("liveFrames"))
		return ProbeLiveFrames;
	if (args.Has("link"))
		return [kind = args.String("link", 15)] { return ProbeLink(kind); };
	return nullptr;
}

} // namespace

std::function<ProbeAnswer()> ReadDeviceProbe(const Args &args)
{
	const auto probe = DeviceProbe(args);
	if (!probe)
		return nullptr;
	return [netns = args.OptionalNetns("netns"), probe] { return OnOwnThread(netns, probe); };
}

} // namespace tortie
