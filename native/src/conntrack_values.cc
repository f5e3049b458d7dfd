#include "conntrack_values.h"
#include "args.h"
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_sctp.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <sys/socket.h>

namespace tortie
{

namespace
{

// The kernel's TCP_MAX_WSCALE.
constexpr uint32_t mostWindowScale = 14;
// What a new entry's status can say; CONFIRMED is added anyway.
constexpr uint32_t givenStatus = IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED;

int ReadFamily(const Args &args)
{
	const auto family = args.OptionalFamily("family");
	if (!family)
		args.Fail("family", "is missing");
	return *family;
}

IpAddress ReadAddress(const Args &args, const char *name, int family)
{
	const IpAddress address = args.Address(name);
	if (address.family != family)
		args.Fail(name, std::string("must be of IPv") + (family == AF_INET ? "4" : "6"));
	return address;
}

ConntrackTuple ReadTuple(const Args &args, int family)
{
	ConntrackTuple tuple;
	tuple.source = ReadAddress(args, "source", family);
	tuple.destination = ReadAddress(args, "destination", family);
	tuple.protocol = static_cast<uint8_t>(args.Number("protocol", 0, UINT8_MAX));
	const TupleForm form = FormOf(tuple.protocol);
	if (form == TupleForm::Ports) {
		tuple.first = static_cast<uint16_t>(args.Number("sourcePort", 0, UINT16_MAX));
		tuple.second = static_cast<uint16_t>(args.Number("destinationPort", 0, UINT16_MAX));
	} else if (args.Has("sourcePort") || args.Has("destinationPort")) {
		args.Fail("sourcePort", "protocol " + std::to_string(tuple.protocol) + " has no ports");
	}
	if (form != TupleForm::Icmp) {
		if (args.Has("icmp"))
			args.Fail("icmp", "protocol " + std::to_string(tuple.protocol) +
					      " is neither ICMP (1) "
					      "nor ICMPv6 (58)");
		return tuple;
	}
	const Args icmp = args.Object("icmp");
	tuple.first = static_cast<uint16_t>(icmp.Number("id", 0, UINT16_MAX));
	tuple.icmpType = static_cast<uint8_t>(icmp.Number("type", 0, UINT8_MAX));
	tuple.icmpCode = static_cast<uint8_t>(icmp.Number("code", 0, UINT8_MAX));
	if (!Inverse(tuple))
		icmp.Fail("type", std::to_string(tuple.icmpType) + " has no answer: the kernel doesn't track "
								   "it");
	return tuple;
}

ConntrackZone ReadZone(const Args &args)
{
	return {static_cast<uint16_t>(args.OptionalNumber("zone", 0, UINT16_MAX).value_or(0)),
		static_cast<ZoneDirection>(args.Number("zoneDirection", 0, 2))};
}

std::optional<Translation> ReadTranslation(const Args &nat, const char *name, const ConntrackTuple &original)
{
	if (!nat.Has(name))
		return std::nullopt;
	const Args args = nat.Object(name);
	Translation translation{ReadAddress(args, "address", original.source.family), std::nullopt};
	if (const auto port = args.OptionalNumber("port", 0, UINT16_MAX)) {
		const TupleForm form = FormOf(original.protocol);
		const bool ofSource = std::string_view(name) == "source";
		if (form == TupleForm::Plain || (form == TupleForm::Icmp && !ofSource))
			args.Fail("port",
				  "protocol " + std::to_string(original.protocol) +
				      (form == TupleForm::Icmp ? " has an id on its source's side only"
							       : " has no ports"));
		translation.port = static_cast<uint16_t>(*port);
	}
	return translation;
}

TcpState ReadTcp(const Args &args)
{
	const Args original = args.Object("original");
	const Args reply = args.Object("reply");
	return {static_cast<uint8_t>(args.Number("state", 0, TCP_CONNTRACK_MAX - 1)),
		static_cast<uint8_t>(original.Number("flags", 0, UINT8_MAX)),
		static_cast<uint8_t>(reply.Number("flags", 0, UINT8_MAX)),
		static_cast<uint8_t>(original.Number("windowScale", 0, mostWindowScale)),
		static_cast<uint8_t>(reply.Number("windowScale", 0, mostWindowScale))};
}

SctpState ReadSctp(const Args &args)
{
	return {static_cast<uint8_t>(args.Number("state", 0, SCTP_CONNTRACK_MAX - 1)),
		args.Number("originalTag"), args.Number("replyTag")};
}

// The kernel takes either state for any protocol, and ignores the wrong one.
void ReadProtocolState(const Args &args, NewConntrack &entry)
{
	const uint8_t protocol = entry.original.protocol;
	if (args.Has("tcp") != (protocol == IPPROTO_TCP))
		args.Fail("tcp", protocol == IPPROTO_TCP ? "is missing" : "is only for TCP (6)");
	if (args.Has("sctp") != (protocol == IPPROTO_SCTP))
		args.Fail("sctp", protocol == IPPROTO_SCTP ? "is missing" : "is only for SCTP (132)");
	if (protocol == IPPROTO_TCP)
		entry.tcp = ReadTcp(args.Object("tcp"));
	if (protocol == IPPROTO_SCTP)
		entry.sctp = ReadSctp(args.Object("sctp"));
}

void ReadNewEntry(const Args &args, CreateJob &job, const char *verb)
{
	NewConntrack &entry = job.entry;
	const int family = ReadFamily(args);
	entry.original = ReadTuple(args.Object("original"), family);
	job.object = std::string(verb) + " " + TupleText(entry.original);
	if (args.Has("reply") &&
	    !SameTuple(ReadTuple(args.Object("reply"), family), *Inverse(entry.original)))
		args.Fail("reply", "must be the plain inverse of `original`: translation is said in `nat`, "
				   "otherwise the kernel doesn't translate");
	if (args.Has("nat")) {
		const Args nat = args.Object("nat");
		entry.source = ReadTranslation(nat, "source", entry.original);
		entry.destination = ReadTranslation(nat, "destination", entry.original);
	}
	entry.zone = ReadZone(args);
	entry.mark = args.OptionalNumber("mark").value_or(0);
	entry.timeout = args.Number("timeoutSeconds", 1, INT32_MAX);
	entry.status = args.Number("status", 0, UINT16_MAX);
	if (entry.status & ~givenStatus)
		args.Fail("status", "can hold seen-reply, assured and confirmed; the kernel sets the others");
	ReadProtocolState(args, entry);
}

void ReadKey(const Args &args, DeleteJob &job)
{
	job.entry.original = ReadTuple(args.Object("original"), ReadFamily(args));
	job.object += " " + TupleText(job.entry.original);
	job.entry.zone = ReadZone(args);
	job.entry.id = args.OptionalNumber("id");
}

template <typename Job, typename Read>
std::vector<Job> ReadJobs(Napi::Value value, const std::string &verb, Read read)
{
	if (!value.IsArray())
		throw BadArgument("entries", "must be an array, not " + Describe(value));
	const auto array = value.As<Napi::Array>();
	std::vector<Job> jobs(array.Length());
	for (uint32_t i = 0; i < jobs.size(); i++) {
		const Napi::HandleScope scope(array.Env());
		jobs[i].object = verb;
		try {
			read(Args(array.Get(i)), jobs[i]);
		} catch (const BadArgument &bad) {
			jobs[i].failure = FailureOf(bad, jobs[i].object);
		} catch (const Napi::Error &thrown) {
			// A getter threw.
			jobs[i].failure = FailureOf(BadArgument("", thrown.Message()), jobs[i].object);
		}
	}
	return jobs;
}

} // namespace

ConntrackRowWriter::ConntrackRowWriter(Napi::Env env) : env_(env), rows_(Napi::Array::New(env))
{
}

void ConntrackRowWriter::Put(Napi::Value value)
{
	rows_.Set(next_++, value);
}

void ConntrackRowWriter::PutNumber(double value)
{
	Put(Napi::Number::New(env_, value));
}

void ConntrackRowWriter::PutNothing()
{
	Put(env_.Undefined());
}

void ConntrackRowWriter::PutTuple(const ConntrackTuple &tuple)
{
	const TupleForm form = FormOf(tuple.protocol);
	for (const IpAddress *address : {&tuple.source, &tuple.destination})
		Put(Napi::String::New(env_, AddressText(address->family, address->bytes.data())));
	PutNumber(tuple.protocol);
	if (form == TupleForm::Plain) {
		for (int i = 0; i < 4; i++)
			PutNothing();
		return;
	}
	PutNumber(tuple.first);
	PutNumber(tuple.second);
	if (form == TupleForm::Icmp) {
		PutNumber(tuple.icmpType);
		PutNumber(tuple.icmpCode);
	} else {
		PutNothing();
		PutNothing();
	}
}

void ConntrackRowWriter::Add(const ConntrackRecord &record)
{
	const Napi::HandleScope scope(env_);
	PutNumber(static_cast<int>(record.change));
	PutNumber(record.family == AF_INET ? 4 : 6);
	PutTuple(record.original);
	PutTuple(record.reply);
	PutNumber(record.zone.id);
	PutNumber(static_cast<int>(record.zone.direction));
	PutNumber(record.mark);
	PutNumber(record.status);
	if (record.timeout)
		PutNumber(*record.timeout);
	else
		PutNothing();
	PutNumber(record.id);
	PutNumber((record.sourceChanged ? 1 : 0) | (record.destinationChanged ? 2 : 0));
	if (const auto &tcp = record.tcp) {
		for (const int value :
		     {tcp->state, tcp->originalFlags, tcp->replyFlags, tcp->originalScale, tcp->replyScale})
			PutNumber(value);
	} else {
		for (int i = 0; i < 5; i++)
			PutNothing();
	}
	if (const auto &sctp = record.sctp) {
		PutNumber(sctp->state);
		PutNumber(sctp->originalTag);
		PutNumber(sctp->replyTag);
	} else {
		for (int i = 0; i < 3; i++)
			PutNothing();
	}
	if (record.helper.empty())
		PutNothing();
	else
		Put(Napi::String::New(env_, record.helper));
}

std::vector<CreateJob> ReadCreateJobs(Napi::Value entries, bool replace)
{
	const char *verb = replace ? "conntrack.replace" : "conntrack.create";
	return ReadJobs<CreateJob>(
	    entries, verb, [verb](const Args &args, CreateJob &job) { ReadNewEntry(args, job, verb); });
}

std::vector<DeleteJob> ReadDeleteJobs(Napi::Value keys)
{
	return ReadJobs<DeleteJob>(keys, "conntrack.delete", ReadKey);
}

} // namespace tortie
