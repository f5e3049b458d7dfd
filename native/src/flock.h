// Exclusive locks on open files: flock(2).
#pragma once
#include <napi.h>

namespace tortie
{

void InitFlock(Napi::Env env, Napi::Object exports);

} // namespace tortie
