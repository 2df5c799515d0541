/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The few kernel fields that iter/tcp programs read of a socket, found by CO-RE; and their context, which is kernel ABI. */
#ifndef AMBIT_SOCK_H
#define AMBIT_SOCK_H

#include "bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct in6_addr {
	union {
		__u32 u6_addr32[4];
	} in6_u;
};
struct sock_common {
	__u32 skc_daddr;
	__u32 skc_rcv_saddr;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};
#pragma clang attribute pop

struct bpf_iter_meta;
struct bpf_iter__tcp {
	__bpf_md_ptr(struct bpf_iter_meta *, meta);
	__bpf_md_ptr(struct sock_common *, sk_common);
	__u32 uid;
};

#endif
