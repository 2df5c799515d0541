/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Addresses are 16 bytes everywhere, IPv4 mapped. */
#ifndef AMBIT_ADDR_H
#define AMBIT_ADDR_H


#include "abi.h"

static __always_inline struct ambit_addr addr_v4(__u32 ip_be)
{
	struct ambit_addr a = { { 0, 0, bpf_htonl(0xffff), ip_be } };
	return a;
}

static __always_inline int addr_is_v4(const struct ambit_addr *a)
{
	return !a->ip_be[0] && !a->ip_be[1] && a->ip_be[2] == bpf_htonl(0xffff);
}

static __always_inline int addr_equal(const struct ambit_addr *a, const struct ambit_addr *b)
{
	return a->ip_be[0] == b->ip_be[0] && a->ip_be[1] == b->ip_be[1] && a->ip_be[2] == b->ip_be[2] &&
	       a->ip_be[3] == b->ip_be[3];
}

/* All zero: no address, or :: */
static __always_inline int addr_is_zero(const struct ambit_addr *a)
{
	return !(a->ip_be[0] | a->ip_be[1] | a->ip_be[2] | a->ip_be[3]);
}

/* 127.0.0.0/8, ::1 */
static __always_inline int addr_is_loopback(const struct ambit_addr *a)
{
	if (addr_is_v4(a))
		return (bpf_ntohl(a->ip_be[3]) >> 24) == 127;
	return !(a->ip_be[0] | a->ip_be[1] | a->ip_be[2]) && a->ip_be[3] == bpf_htonl(1);
}

/* What never leaves the pod, or its link: loopback, 0.0.0.0 and :: (which mean loopback), fe80::/10. */
static __always_inline int addr_is_near(const struct ambit_addr *a)
{
	if (addr_is_v4(a))
		return !a->ip_be[3] || addr_is_loopback(a);
	return addr_is_zero(a) || addr_is_loopback(a) || (bpf_ntohl(a->ip_be[0]) >> 22) == 0x3fa;
}

/* The finalizer of MurmurHash3: every bit of the input moves half of the output. */
static __always_inline __u32 mix(__u32 h)
{
	h = (h ^ (h >> 16)) * 0x85ebca6bU;
	h = (h ^ (h >> 13)) * 0xc2b2ae35U;
	return h ^ (h >> 16);
}

/*
 * A port for a captured connection: with one destination port for all of them, a pod's whole outbound traffic would share
 * one space of source ports.
 */
static __always_inline __u16 spread_port(const struct ambit_end *dst)
{
	__u32 h = mix(dst->addr.ip_be[0]);

	h = mix(h ^ dst->addr.ip_be[1]);
	h = mix(h ^ dst->addr.ip_be[2]);
	h = mix(h ^ dst->addr.ip_be[3]);
	return 1024 + mix(h ^ dst->port) % 64000;
}

#endif
