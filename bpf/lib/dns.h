/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Which nameserver was meant, over UDP. A socket that connect()s has one. A socket that does not may ask several, and both the
 * resolver and the answer must find the right one: each of the first `ports` nameservers of a socket gets a port of its own
 * (15053, 15054, ...); those that share a port take turns, so that a resolver which asks all of them at once reaches all.
 */
#ifndef AMBIT_DNS_H
#define AMBIT_DNS_H

#include "stats.h"
#include "verdict.h"

const volatile __u32 dns_ports = 1; /* UDP ports the resolver listens on, 1 to AMBIT_NAMESERVERS */

static __always_inline __u16 dns_port(__u32 i)
{
	return AMBIT_PORT_DNS + (i < dns_ports ? i : dns_ports - 1);
}

/* The index of dst among those asked; a new one takes the place of the oldest when there is no room. */
static __always_inline __u32 dns_remember(struct ambit_asked *m, const struct ambit_end *dst)
{
	__u32 i;

#pragma unroll
	for (i = 0; i < AMBIT_NAMESERVERS; i++)
		if (i < m->used && m->by_send[i].port == dst->port && addr_equal(&m->by_send[i].addr, &dst->addr)) {
			m->last = i;
			return i;
		}
	i = m->used;
	if (i < AMBIT_NAMESERVERS)
		m->used = i + 1;
	else
		i = (m->last + 1) % AMBIT_NAMESERVERS;
	m->by_send[i & (AMBIT_NAMESERVERS - 1)] = *dst;
	m->last = i;
	return i;
}

/* Whom a query that arrived at our port was for. */
static __always_inline int dns_meant(struct ambit_asked *m, int connected, __u16 port, struct ambit_end *e)
{
	__u32 i = port - AMBIT_PORT_DNS, first = dns_ports - 1;

	if (connected && m->peer.port) {
		*e = m->peer;
		return 1;
	}
	if (!m->used)
		return 0;
	if (i >= first && m->used > first)
		i = first + m->turn++ % (m->used - first);
	if (i >= m->used)
		i = m->last;
	*e = m->by_send[i & (AMBIT_NAMESERVERS - 1)];
	return 1;
}

/* Whom the answer from our port must seem to come from. */
static __always_inline int dns_answer(struct ambit_asked *m, int connected, __u16 port, struct ambit_end *e)
{
	__u32 i = port - AMBIT_PORT_DNS;

	if (connected && m->peer.port) {
		*e = m->peer;
		return 1;
	}
	if (!m->used)
		return 0;
	if (i + 1 >= dns_ports || i >= m->used) /* shared: the last one asked */
		i = m->last >= i || i >= m->used ? m->last : i;
	*e = m->by_send[i & (AMBIT_NAMESERVERS - 1)];
	return 1;
}

#endif
