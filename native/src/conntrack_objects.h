// The addon's objects of connection tracking besides ConntrackSocket: ConntrackWriter, ConntrackDumpSocket,
// ConntrackEventSocket, decodeConntrack, proveNat.
#pragma once
#include "socket.h"
#include <memory>
#include <napi.h>

namespace tortie
{

// The socket, or EBADF when it is closed.
const std::shared_ptr<Socket> &OpenOrThrow(const std::shared_ptr<Socket> &socket, const char *object);

void InitConntrackWriter(Napi::Env env, Napi::Object exports);
void InitConntrackDump(Napi::Env env, Napi::Object exports);
void InitConntrackEvents(Napi::Env env, Napi::Object exports);
void InitNatProof(Napi::Env env, Napi::Object exports);

} // namespace tortie
