// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Services by themselves: who answers for them while they are being written. */
#define FAMILY 4
#include "services-family.h"
#undef FAMILY
#define FAMILY 6
#include "services-family.h"
#undef FAMILY

char LICENSE[] SEC("license") = "Dual BSD/GPL";
