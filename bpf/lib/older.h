/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#ifndef AMBIT_OLDER_H
#define AMBIT_OLDER_H

#include "include/sock.h"
#include "stats.h"
#include "addr.h"

/*
 * Once the hooks are in force, a new connection of an application has the pod's own address at both ends. So an untagged
 * socket that is connected to elsewhere is older. Listeners are left alone: their children would inherit the tag.
 */
static __always_inline int is_older(struct sock_common *sk)
{
	struct ambit_addr local, remote;
	__u32 i;

	switch (sk->skc_state) {
	case BPF_TCP_CLOSE:
	case BPF_TCP_LISTEN:
	case BPF_TCP_TIME_WAIT:
	case BPF_TCP_NEW_SYN_RECV:
		return 0;
	}
	if (sk->skc_family == 2) {
		local = addr_v4(sk->skc_rcv_saddr);
		remote = addr_v4(sk->skc_daddr);
	} else {
#pragma unroll
		for (i = 0; i < 4; i++) {
			local.ip_be[i] = sk->skc_v6_rcv_saddr.in6_u.u6_addr32[i];
			remote.ip_be[i] = sk->skc_v6_daddr.in6_u.u6_addr32[i];
		}
	}
	if (addr_is_loopback(&remote) || addr_equal(&local, &remote))
		return 0;
	return !bpf_sk_storage_get(&ambit_own, sk, 0, 0);
}

#endif
