#include "conntrack_writes.h"
#include <cerrno>
#include <cstring>
#include <functional>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

namespace tortie
{

namespace
{

// A packet between deletion and creation makes an entry; that it happens so often is not to be expected.
constexpr int replaceTries = 3;

// Flags that mean something without the sequence numbers, which nobody can hand over.
constexpr uint8_t portableTcpFlags =
    IP_CT_TCP_FLAG_WINDOW_SCALE | IP_CT_TCP_FLAG_SACK_PERM | IP_CT_TCP_FLAG_CLOSE_INIT;

// The original direction's packets after translation.
ConntrackTuple Translated(const NewConntrack &entry)
{
	ConntrackTuple tuple = entry.original;
	if (entry.source) {
		tuple.source = entry.source->address;
		tuple.first = entry.source->port.value_or(tuple.first);
	}
	if (entry.destination) {
		tuple.destination = entry.destination->address;
		tuple.second = entry.destination->port.value_or(tuple.second);
	}
	return tuple;
}

void PutNat(ConntrackRequest &request, uint16_t type, const IpAddress &address, TupleForm form, uint16_t port)
{
	const bool v4 = address.family == AF_INET;
	nlattr *nest = request.Nest(type);
	request.Put(v4 ? CTA_NAT_V4_MINIP : CTA_NAT_V6_MINIP, address.bytes.data(), address.size());
	request.Put(v4 ? CTA_NAT_V4_MAXIP : CTA_NAT_V6_MAXIP, address.bytes.data(), address.size());
	// An ICMP id belongs to the source.
	if (form == TupleForm::Ports || (form == TupleForm::Icmp && type == CTA_NAT_SRC)) {
		nlattr *proto = request.Nest(CTA_NAT_PROTO);
		request.PutBig16(CTA_PROTONAT_PORT_MIN, port);
		request.PutBig16(CTA_PROTONAT_PORT_MAX, port);
		request.EndNest(proto);
	}
	request.EndNest(nest);
}

void PutFlags(ConntrackRequest &request, uint16_t type, uint8_t flags)
{
	const uint8_t set = (flags & portableTcpFlags) | IP_CT_TCP_FLAG_BE_LIBERAL;
	const nf_ct_tcp_flags value{set, set};
	request.Put(type, &value, sizeof(value));
}

void PutProtocolState(ConntrackRequest &request, const NewConntrack &entry)
{
	if (!entry.tcp && !entry.sctp)
		return;
	nlattr *info = request.Nest(CTA_PROTOINFO);
	if (entry.tcp) {
		nlattr *tcp = request.Nest(CTA_PROTOINFO_TCP);
		request.PutU8(CTA_PROTOINFO_TCP_STATE, entry.tcp->state);
		request.PutU8(CTA_PROTOINFO_TCP_WSCALE_ORIGINAL, entry.tcp->originalScale);
		request.PutU8(CTA_PROTOINFO_TCP_WSCALE_REPLY, entry.tcp->replyScale);
		PutFlags(request, CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, entry.tcp->originalFlags);
		PutFlags(request, CTA_PROTOINFO_TCP_FLAGS_REPLY, entry.tcp->replyFlags);
		request.EndNest(tcp);
	} else {
		nlattr *sctp = request.Nest(CTA_PROTOINFO_SCTP);
		request.PutU8(CTA_PROTOINFO_SCTP_STATE, entry.sctp->state);
		request.PutBig32(CTA_PROTOINFO_SCTP_VTAG_ORIGINAL, entry.sctp->originalTag);
		request.PutBig32(CTA_PROTOINFO_SCTP_VTAG_REPLY, entry.sctp->replyTag);
		request.EndNest(sctp);
	}
	request.EndNest(info);
}

Message CreateRequest(const NewConntrack &entry)
{
	const ConntrackTuple &original = entry.original;
	ConntrackRequest request(IPCTNL_MSG_CT_NEW, NLM_F_CREATE | NLM_F_EXCL, original.source.family);
	PutTuple(request, CTA_TUPLE_ORIG, original, entry.zone);
	// The plain inverse: the kernel alters it itself, and only then knows that it has to translate.
	PutTuple(request, CTA_TUPLE_REPLY, *Inverse(original), entry.zone);
	PutZone(request, entry.zone);
	if (entry.source || entry.destination) {
		// Always both, with ports: for what isn't said the kernel picks a source port of its own when
		// the wanted one is taken.
		const ConntrackTuple onward = Translated(entry);
		const TupleForm form = FormOf(original.protocol);
		PutNat(request, CTA_NAT_SRC, onward.source, form, onward.first);
		PutNat(request, CTA_NAT_DST, onward.destination, form, onward.second);
	}
	request.PutBig32(CTA_STATUS, entry.status | IPS_CONFIRMED);
	request.PutBig32(CTA_TIMEOUT, entry.timeout);
	if (entry.mark != 0)
		request.PutBig32(CTA_MARK, entry.mark);
	PutProtocolState(request, entry);
	return request.Finish();
}

// Of a zone of one direction the kernel takes what stands in the tuple that it looks up.
Message DeleteRequest(uint16_t type, const ConntrackTuple &tuple, const ConntrackZone &zone,
		      std::optional<uint32_t> id)
{
	ConntrackRequest request(IPCTNL_MSG_CT_DELETE, 0, tuple.source.family);
	PutTuple(request, type, tuple, zone);
	PutZone(request, zone);
	if (id)
		request.PutBig32(CTA_ID, *id);
	return request.Finish();
}

std::string WordsFor(int error)
{
	const char *words = strerrordesc_np(error);
	std::string text = words ? words : "unknown error " + std::to_string(error);
	switch (error) {
	case EEXIST:
		return text + ": an entry has the original tuple, or the reply tuple: replace it";
	case ENOMEM:
		return text + ": the table is full (sysctl net.netfilter.nf_conntrack_max)";
	case ENOSPC:
		return text + ": too many entries in one place of the table (sysctl "
			      "net.netfilter.nf_conntrack_buckets)";
	case EOPNOTSUPP:
		return text + ": the kernel has no NAT (module nf_nat)";
	case EBUSY:
		return text + ": a flowtable has it";
	case EPERM:
		return text + ": CAP_NET_ADMIN in the namespace's user namespace is missing";
	default:
		return text;
	}
}

Failure FailureOf(const Answer &answer, const std::string &object)
{
	Failure failure;
	failure.number = answer.error;
	failure.syscall = "sendmsg";
	failure.object = object;
	failure.extack = answer.extack;
	failure.text = WordsFor(answer.error);
	return failure;
}

// Requests that go out in one message, and who hears of the answers.
class Outbox
{
      public:
	using Hear = std::function<void(const Answer &)>;

	explicit Outbox(Socket &socket) : socket_(socket)
	{
	}
	// Requests that stay together.
	void Add(std::vector<std::pair<Message, Hear>> requests)
	{
		size_t size = 0;
		for (const auto &[message, hear] : requests)
			size += message.bytes.size();
		if (hears_.size() + requests.size() > Socket::most ||
		    bytes_.size() + size > Socket::mostBytes)
			Flush();
		for (auto &[message, hear] : requests) {
			bytes_.insert(bytes_.end(), message.bytes.begin(), message.bytes.end());
			hears_.push_back(std::move(hear));
		}
	}
	void Flush()
	{
		if (hears_.empty())
			return;
		const auto answers = socket_.Exchange(bytes_, hears_.size());
		for (size_t i = 0; i < answers.size(); i++)
			hears_[i](answers[i]);
		bytes_.clear();
		hears_.clear();
	}

      private:
	Socket &socket_;
	std::vector<uint8_t> bytes_;
	std::vector<Hear> hears_;
};

// Hears of a deletion: what isn't there is no failure.
template <typename Job> Outbox::Hear HearDeletion(Job &job, bool &deleted)
{
	return [&job, &deleted](const Answer &answer) {
		if (answer.error == 0)
			deleted = true;
		else if (answer.error != ENOENT && !job.failure)
			job.failure = FailureOf(answer, job.object);
	};
}

void Create(Socket &socket, bool replace, const std::vector<CreateJob *> &which)
{
	Outbox outbox(socket);
	for (CreateJob *job : which) {
		const NewConntrack &entry = job->entry;
		std::vector<std::pair<Message, Outbox::Hear>> requests;
		if (replace) {
			requests.emplace_back(
			    DeleteRequest(CTA_TUPLE_ORIG, entry.original, entry.zone, std::nullopt),
			    HearDeletion(*job, job->deletedOriginal));
			requests.emplace_back(DeleteRequest(CTA_TUPLE_REPLY, *Inverse(Translated(entry)),
							    entry.zone, std::nullopt),
					      HearDeletion(*job, job->deletedReply));
		}
		requests.emplace_back(CreateRequest(entry), [job](const Answer &answer) {
			// What kept the old entry in place says more than that it is there.
			if (answer.error && !job->failure)
				job->failure = FailureOf(answer, job->object);
		});
		outbox.Add(std::move(requests));
	}
	outbox.Flush();
}

} // namespace

void CreateEntries(Socket &socket, std::vector<CreateJob> &jobs, bool replace)
{
	std::vector<CreateJob *> which;
	for (CreateJob &job : jobs)
		if (!job.failure)
			which.push_back(&job);
	for (int attempt = 1; !which.empty(); attempt++) {
		Create(socket, replace, which);
		if (!replace || attempt == replaceTries)
			return;
		std::erase_if(which, [](const CreateJob *job) {
			return !job->failure || job->failure->number != EEXIST;
		});
		for (CreateJob *job : which)
			job->failure.reset();
	}
}

void DeleteEntries(Socket &socket, std::vector<DeleteJob> &jobs)
{
	Outbox outbox(socket);
	for (DeleteJob &job : jobs) {
		if (job.failure)
			continue;
		const ConntrackKey &key = job.entry;
		std::vector<std::pair<Message, Outbox::Hear>> requests;
		requests.emplace_back(DeleteRequest(CTA_TUPLE_ORIG, key.original, key.zone, key.id),
				      HearDeletion(job, job.deletedOriginal));
		outbox.Add(std::move(requests));
	}
	outbox.Flush();
}

} // namespace tortie
