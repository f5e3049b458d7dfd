// The bpf(2) half of the addon: maps, programs, objects, probes. Thin over libbpf; checks and convenience are
// in native/bpf.ts.
#pragma once
#include "errors.h"
#include "fd.h"
#include <cstdint>
#include <napi.h>
#include <span>
#include <string>
#include <vector>

namespace tortie
{

void InitBpf(Napi::Env env, Napi::Object exports);

// The parts that InitBpf puts together.
void InitBpfMap(Napi::Env env, Napi::Object exports);
void InitBpfProgram(Napi::Env env, Napi::Object exports);
void InitBpfObject(Napi::Env env, Napi::Object exports);
void InitBpfProbe(Napi::Env env, Napi::Object exports);
void InitBpfGrace(Napi::Env env, Napi::Object exports);
void InitBpfLink(Napi::Env env, Napi::Object exports);
void InitBpfAttached(Napi::Env env, Napi::Object exports);
void InitBpfRing(Napi::Env env, Napi::Object exports);

// A second descriptor of the same thing, for work on another thread: closing the first meanwhile can't hand a
// stranger's number to it.
Fd Duplicate(int fd, const std::string &object);

// The bytes of a Uint8Array; `length` 0 takes any number. The memory is JavaScript's.
std::span<uint8_t> Bytes(Napi::Value value, const char *what, size_t length = 0);
std::vector<uint8_t> CopyOf(Napi::Value value, const char *what, size_t length = 0);
Napi::Value ToBytes(Napi::Env env, std::span<const uint8_t> bytes);

// A file descriptor's number from JavaScript.
int FdFrom(Napi::Value value, const char *what);

} // namespace tortie
