// What nf_tables holds: tables, and the chains that packets enter. Read only.
#pragma once
#include <napi.h>

namespace tortie
{

void InitNftables(Napi::Env env, Napi::Object exports);

} // namespace tortie
