#include "nftables.h"
#include "args.h"
#include "message.h"
#include "netns.h"
#include "objects.h"
#include "socket.h"
#include "worker.h"
#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

namespace tortie
{
namespace
{

struct NftTable {
	uint8_t family = 0;
	std::string name;
};

struct NftChain {
	uint8_t family = 0;
	std::string table;
	std::string name;
	std::string type;
	uint32_t hook = 0;
	int32_t priority = 0;
	bool drops = false;
};

struct NftRuleset {
	std::vector<NftTable> tables;
	std::vector<NftChain> baseChains;
};

Message DumpRequest(uint8_t command)
{
	MessageWriter request(NFNL_SUBSYS_NFTABLES << 8 | command, NLM_F_DUMP);
	request.Fixed<nfgenmsg>()->version = NFNETLINK_V0;
	return request.Finish();
}

template <typename Each> void ForEach(Socket &socket, uint8_t command, const std::string &object, Each each)
{
	const std::vector<uint8_t> bytes = socket.Dump(DumpRequest(command), object);
	int rest = static_cast<int>(bytes.size());
	for (const auto *message = reinterpret_cast<const nlmsghdr *>(bytes.data());
	     mnl_nlmsg_ok(message, rest); message = mnl_nlmsg_next(message, &rest))
		if (const auto *header = FixedHeader<nfgenmsg>(message))
			each(header->nfgen_family, message);
}

// Nothing for chains that packets reach by jumps only: of those there may be ten thousands.
std::optional<NftChain> BaseChain(uint8_t family, const nlmsghdr *message)
{
	const Attributes<NFTA_CHAIN_MAX> chain(message, sizeof(nfgenmsg));
	if (!chain[NFTA_CHAIN_HOOK])
		return std::nullopt;
	const Attributes<NFTA_HOOK_MAX> hook(chain[NFTA_CHAIN_HOOK]);
	return NftChain{family,
			chain.Text(NFTA_CHAIN_TABLE).value_or(""),
			chain.Text(NFTA_CHAIN_NAME).value_or(""),
			chain.Text(NFTA_CHAIN_TYPE).value_or(""),
			ntohl(hook.U32(NFTA_HOOK_HOOKNUM).value_or(0)),
			static_cast<int32_t>(ntohl(hook.U32(NFTA_HOOK_PRIORITY).value_or(0))),
			chain[NFTA_CHAIN_POLICY] &&
			    ntohl(chain.U32(NFTA_CHAIN_POLICY).value_or(0)) == NF_DROP};
}

NftRuleset ReadRuleset(Socket &socket)
{
	NftRuleset ruleset;
	ForEach(socket, NFT_MSG_GETTABLE, "nftables.tables", [&](uint8_t family, const nlmsghdr *message) {
		const Attributes<NFTA_TABLE_MAX> table(message, sizeof(nfgenmsg));
		ruleset.tables.push_back({family, table.Text(NFTA_TABLE_NAME).value_or("")});
	});
	ForEach(socket, NFT_MSG_GETCHAIN, "nftables.chains", [&](uint8_t family, const nlmsghdr *message) {
		if (auto chain = BaseChain(family, message))
			ruleset.baseChains.push_back(std::move(*chain));
	});
	return ruleset;
}

const char *FamilyName(uint8_t family)
{
	switch (family) {
	case NFPROTO_INET:
		return "inet";
	case NFPROTO_IPV4:
		return "ip";
	case NFPROTO_IPV6:
		return "ip6";
	case NFPROTO_ARP:
		return "arp";
	case NFPROTO_NETDEV:
		return "netdev";
	case NFPROTO_BRIDGE:
		return "bridge";
	default:
		return "unknown";
	}
}

const char *HookName(const NftChain &chain)
{
	static constexpr const char *names[] = {"prerouting", "input",	     "forward",
						"output",     "postrouting", "ingress"};
	static constexpr const char *ofDevices[] = {"ingress", "egress"};
	if (chain.family == NFPROTO_NETDEV)
		return chain.hook < std::size(ofDevices) ? ofDevices[chain.hook] : "unknown";
	return chain.hook < std::size(names) ? names[chain.hook] : "unknown";
}

Napi::Value ToJs(Napi::Env env, const NftRuleset &ruleset)
{
	Napi::Array tables = Napi::Array::New(env);
	for (const NftTable &table : ruleset.tables) {
		Napi::Object item = Napi::Object::New(env);
		item.Set("family", FamilyName(table.family));
		item.Set("name", table.name);
		tables.Set(tables.Length(), item);
	}
	Napi::Array chains = Napi::Array::New(env);
	for (const NftChain &chain : ruleset.baseChains) {
		Napi::Object item = Napi::Object::New(env);
		item.Set("family", FamilyName(chain.family));
		item.Set("table", chain.table);
		item.Set("name", chain.name);
		item.Set("type", chain.type);
		item.Set("hook", HookName(chain));
		item.Set("priority", chain.priority);
		item.Set("policy", chain.drops ? "drop" : "accept");
		chains.Set(chains.Length(), item);
	}
	Napi::Object out = Napi::Object::New(env);
	out.Set("tables", tables);
	out.Set("baseChains", chains);
	return out;
}

// nftables(netns?): Promise<NftRuleset>
Napi::Value JsNftables(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "nftables", [&]() -> Napi::Value {
		const auto netns = NetnsFromValue(info[0], "netns");
		const auto socket = InNetns(netns, [] { return Socket::Open(NETLINK_NETFILTER); });
		return OnWorker<NftRuleset>(
		    info.Env(), [socket] { return ReadRuleset(*socket); },
		    [](Napi::Env env, NftRuleset &ruleset) { return ToJs(env, ruleset); });
	});
}

} // namespace

void InitNftables(Napi::Env env, Napi::Object exports)
{
	exports.Set("nftables", Napi::Function::New(env, JsNftables, "nftables"));
}

} // namespace tortie
