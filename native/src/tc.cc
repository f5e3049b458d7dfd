#include "objects.h"
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>

namespace tortie
{

static constexpr uint32_t ingressParent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);
static constexpr uint32_t egressParent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS);
// CLS_BPF_NAME_LEN in net/sched/cls_bpf.c, without the terminating NUL.
static constexpr size_t maxName = 255;

void EncodeClsact(const Args &args, Op &op)
{
	const bool add = op.object == "clsact.add";
	const LinkRef link = args.Link("link");
	op.object += " " + link.text();
	MessageWriter writer(add ? RTM_NEWQDISC : RTM_DELQDISC, add ? NLM_F_CREATE | NLM_F_EXCL : 0);
	auto *tc = writer.Fixed<tcmsg>();
	writer.SetLink(&tc->tcm_ifindex, link);
	tc->tcm_parent = TC_H_CLSACT;
	tc->tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
	writer.PutString(TCA_KIND, "clsact");
	op.messages.push_back(writer.Finish());
}

static bool IsEgress(const Args &args)
{
	const std::string direction = args.String("direction", 32);
	if (direction != "ingress" && direction != "egress")
		args.Fail("direction", "'" + direction + "' is neither ingress nor egress");
	return direction == "egress";
}

void EncodeFilter(const Args &args, Op &op)
{
	const bool del = op.object == "filter.del";
	const LinkRef link = args.Link("link");
	const bool egress = IsEgress(args);
	// Zero would be chosen by the kernel, and a deletion without number takes all.
	const uint32_t priority = args.Number("priority", 1, 65535);
	const uint32_t handle = args.Number("handle", 1);
	op.object += " " + link.text() + (egress ? " egress" : " ingress") + " prio " +
		     std::to_string(priority) + " handle " + std::to_string(handle);
	MessageWriter writer(del ? RTM_DELTFILTER : RTM_NEWTFILTER, del ? 0 : NLM_F_CREATE);
	auto *tc = writer.Fixed<tcmsg>();
	writer.SetLink(&tc->tcm_ifindex, link);
	tc->tcm_parent = egress ? egressParent : ingressParent;
	tc->tcm_handle = handle;
	tc->tcm_info = TC_H_MAKE(priority << 16, htons(ETH_P_ALL));
	writer.PutString(TCA_KIND, "bpf");
	if (!del) {
		const uint32_t fd = args.Number("fd", 0, INT32_MAX);
		nlattr *options = writer.Nest(TCA_OPTIONS);
		writer.PutU32(TCA_BPF_FD, fd);
		if (const auto name = args.OptionalString("name", maxName))
			writer.PutString(TCA_BPF_NAME, *name);
		writer.PutU32(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
		writer.EndNest(options);
	}
	op.messages.push_back(writer.Finish());
}

Message DumpFilters(const DumpFilter &filter)
{
	MessageWriter writer(RTM_GETTFILTER, NLM_F_DUMP);
	auto *tc = writer.Fixed<tcmsg>();
	writer.SetLink(&tc->tcm_ifindex, filter.link.value());
	tc->tcm_parent = filter.egress ? egressParent : ingressParent;
	return writer.Finish();
}

Message DumpQdiscs()
{
	// A single GET would be told to every listener of the tc group by kernels before 6.8, as if something
	// had changed.
	MessageWriter writer(RTM_GETQDISC, NLM_F_DUMP);
	writer.Fixed<tcmsg>();
	return writer.Finish();
}

Napi::Value DecodeFilter(Napi::Env env, const nlmsghdr *message)
{
	const auto *tc = FixedHeader<tcmsg>(message);
	// Handle 0 is the head of a priority, not a filter.
	if (!tc || tc->tcm_handle == 0)
		return env.Undefined();
	const Attributes<TCA_MAX> attributes(message, sizeof(*tc));
	const auto kind = attributes.Text(TCA_KIND);
	if (!kind)
		return env.Undefined();
	Napi::Object filter = Napi::Object::New(env);
	filter.Set("kind", *kind);
	filter.Set("linkIndex", Napi::Number::New(env, tc->tcm_ifindex));
	filter.Set("direction", tc->tcm_parent == egressParent ? "egress" : "ingress");
	filter.Set("priority", Napi::Number::New(env, tc->tcm_info >> 16));
	filter.Set("handle", Napi::Number::New(env, tc->tcm_handle));
	if (*kind != "bpf")
		return filter;
	const Attributes<TCA_BPF_MAX> options(attributes[TCA_OPTIONS]);
	if (const auto name = options.Text(TCA_BPF_NAME))
		filter.Set("name", *name);
	if (const auto id = options.U32(TCA_BPF_ID))
		filter.Set("programId", Napi::Number::New(env, *id));
	return filter;
}

Napi::Value DecodeTcDevice(Napi::Env env, const nlmsghdr *message)
{
	const auto *tc = FixedHeader<tcmsg>(message);
	// A filter of a block that devices share has no device.
	if (!tc || tc->tcm_ifindex <= 0)
		return env.Undefined();
	return Napi::Number::New(env, tc->tcm_ifindex);
}

Napi::Value DecodeQdisc(Napi::Env env, const nlmsghdr *message)
{
	const auto *tc = FixedHeader<tcmsg>(message);
	if (!tc)
		return env.Undefined();
	const Attributes<TCA_MAX> attributes(message, sizeof(*tc));
	const auto kind = attributes.Text(TCA_KIND);
	if (!kind)
		return env.Undefined();
	Napi::Object qdisc = Napi::Object::New(env);
	qdisc.Set("kind", *kind);
	qdisc.Set("linkIndex", Napi::Number::New(env, tc->tcm_ifindex));
	qdisc.Set("isRoot", tc->tcm_parent == TC_H_ROOT);
	return qdisc;
}

bool IsClsact(const nlmsghdr *message, uint32_t linkIndex)
{
	const auto *tc = FixedHeader<tcmsg>(message);
	if (!tc || static_cast<uint32_t>(tc->tcm_ifindex) != linkIndex)
		return false;
	const Attributes<TCA_MAX> attributes(message, sizeof(*tc));
	return attributes.Text(TCA_KIND) == "clsact";
}

} // namespace tortie
