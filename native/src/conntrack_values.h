// Entries of connection tracking between JavaScript and C++. The other side is native/conntrack-rows.ts.
#pragma once
#include "conntrack_writes.h"
#include <napi.h>
#include <vector>

namespace tortie
{

// ConntrackRows: so many values for each record, one record after the other.
class ConntrackRowWriter
{
      public:
	explicit ConntrackRowWriter(Napi::Env env);
	void Add(const ConntrackRecord &record);
	Napi::Array rows() const
	{
		return rows_;
	}

      private:
	void Put(Napi::Value value);
	void PutNumber(double value);
	void PutNothing();
	void PutTuple(const ConntrackTuple &tuple);

	Napi::Env env_;
	Napi::Array rows_;
	uint32_t next_ = 0;
};

// What can't be put on the wire is that job's failure, EINVAL of `encode`.
std::vector<CreateJob> ReadCreateJobs(Napi::Value entries, bool replace);
std::vector<DeleteJob> ReadDeleteJobs(Napi::Value keys);

} // namespace tortie
