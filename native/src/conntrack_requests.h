// Requests of ctnetlink: what goes over the socket. Runs on any thread; knows nothing of JavaScript.
#pragma once
#include "address.h"
#include "socket.h"
#include <vector>

namespace tortie
{

// Deletes every entry that one of these addresses began or answers: it is the source of the original
// direction or of the reply (what a translated connection really goes to). Returns how many.
uint32_t DeleteEntriesOf(Socket &socket, const std::vector<IpAddress> &addresses);

} // namespace tortie
