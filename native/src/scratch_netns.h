// A network namespace to try things in.
#pragma once
#include <napi.h>

namespace tortie
{

void InitScratchNetns(Napi::Env env, Napi::Object exports);

} // namespace tortie
