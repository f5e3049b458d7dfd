// A ring buffer's records, some at a time, when the event loop says that there are any.
#include "bpf.h"
#include "args.h"
#include "readiness.h"
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <memory>

namespace tortie
{
namespace
{

// Per wake-up: some 100 us of copying; then the event loop has its turn.
constexpr size_t recordsPerRead = 1024;
constexpr size_t bytesPerRead = 256 << 10;

struct RingCloser {
	void operator()(ring_buffer *ring) const
	{
		ring_buffer__free(ring);
	}
};

class BpfRing : public Napi::ObjectWrap<BpfRing>
{
      public:
	static void Init(Napi::Env env, Napi::Object exports)
	{
		exports.Set("BpfRing", DefineClass(env, "BpfRing",
						   {
						       InstanceMethod<&BpfRing::Wait>("wait"),
						       InstanceMethod<&BpfRing::Read>("read"),
						       InstanceMethod<&BpfRing::JsClose>("close"),
						   }));
	}

	// new BpfRing(map fd); the descriptor stays the caller's
	explicit BpfRing(const Napi::CallbackInfo &info) : Napi::ObjectWrap<BpfRing>(info)
	{
		Guarded(info.Env(), "ring buffer", [&] {
			map_ = std::make_shared<Fd>(Duplicate(FdFrom(info[0], "fd"), "ring buffer"));
			ring_.reset(ring_buffer__new(map_->get(), Take, this, nullptr), RingCloser());
			if (!ring_)
				ThrowErrno("libbpf", "ring buffer");
			readiness_ = new Readiness(info.Env(), ring_buffer__epoll_fd(ring_.get()), ring_,
						   "tortie.ring");
		});
	}

	~BpfRing() override
	{
		Close();
	}

      private:
	// libbpf has taken the record by now; an error stops it after this one.
	static int Take(void *self, void *data, size_t size)
	{
		auto *ring = static_cast<BpfRing *>(self);
		const auto *bytes = static_cast<const uint8_t *>(data);
		try {
			ring->lengths_.push_back(static_cast<uint32_t>(size));
			ring->bytes_.insert(ring->bytes_.end(), bytes, bytes + size);
		} catch (const std::bad_alloc &) {
			return -ENOMEM;
		}
		return ring->lengths_.size() < recordsPerRead && ring->bytes_.size() < bytesPerRead
			   ? 0
			   : -ECANCELED;
	}

	// wait(callback): calls it once, when there are records. Keeps the process alive until then.
	void Wait(const Napi::CallbackInfo &info)
	{
		Guarded(info.Env(), "ring buffer", [&] {
			if (!info[0].IsFunction())
				throw BadArgument("callback", "must be a function");
			if (readiness_)
				readiness_->Wait(info[0].As<Napi::Function>());
		});
	}

	// read(): {bytes, lengths}: records back to back
	Napi::Value Read(const Napi::CallbackInfo &info)
	{
		return Guarded(info.Env(), "ring buffer", [&]() -> Napi::Value {
			const Napi::Env env = info.Env();
			bytes_.clear();
			lengths_.clear();
			if (readiness_) {
				const int result = ring_buffer__consume(ring_.get());
				if (result < 0 && result != -ECANCELED) {
					errno = -result;
					ThrowErrno("libbpf", "ring buffer");
				}
			}
			Napi::Object out = Napi::Object::New(env);
			out.Set("bytes", ToBytes(env, bytes_));
			auto lengths = Napi::Uint32Array::New(env, lengths_.size());
			std::copy(lengths_.begin(), lengths_.end(), lengths.Data());
			out.Set("lengths", lengths);
			return out;
		});
	}

	void Close()
	{
		if (readiness_)
			std::exchange(readiness_, nullptr)->Close();
		ring_.reset();
		map_.reset();
	}

	Napi::Value JsClose(const Napi::CallbackInfo &info)
	{
		Close();
		return info.Env().Undefined();
	}

	std::shared_ptr<Fd> map_;
	// Shared with the event loop, which lets go of the descriptor later than we.
	std::shared_ptr<ring_buffer> ring_;
	Readiness *readiness_ = nullptr;
	std::vector<uint8_t> bytes_;
	std::vector<uint32_t> lengths_;
};

} // namespace

void InitBpfRing(Napi::Env env, Napi::Object exports)
{
	BpfRing::Init(env, exports);
}

} // namespace tortie
