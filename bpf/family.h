/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is compiled once for each address family, from the same text: FAMILY is defined as 4 or 6 before such
 *a header is included. One translation unit may include it for both, one after the other:
 *
 *	#define FAMILY 4
 *	#include "l4.h"
 *	#undef FAMILY
 *	#define FAMILY 6
 *	#include "l4.h"
 *
 * In the text of such headers a name below means that of the FAMILY defined where it stands; text that is of
 *no family says which (classify4). No guard: it is included for each family anew.
 */
#undef OF_FAMILY
#undef ADDRESS_BYTES
#if FAMILY == 4
#define OF_FAMILY(name) name##4
#define ADDRESS_BYTES 4
#elif FAMILY == 6
#define OF_FAMILY(name) name##6
#define ADDRESS_BYTES 16
#else
#error "FAMILY is 4 or 6"
#endif
