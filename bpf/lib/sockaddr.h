/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Between the two families of struct bpf_sock_addr and our one. */
#ifndef AMBIT_SOCKADDR_H
#define AMBIT_SOCKADDR_H

#include "addr.h"
#include "ctx.h"

static __always_inline struct ambit_end user4(struct bpf_sock_addr *c)
{
	struct ambit_end e = {
		.addr = addr_v4(CTX_READ(c, user_ip4)),
		.port = bpf_ntohs(CTX_READ(c, user_port)),
	};
	return e;
}

static __always_inline struct ambit_end user6(struct bpf_sock_addr *c)
{
	struct ambit_end e = {
		.addr = CTX_READ_ADDR(c, user_ip6),
		.port = bpf_ntohs(CTX_READ(c, user_port)),
	};
	return e;
}

static __always_inline void set_user4(struct bpf_sock_addr *c, const struct ambit_end *e)
{
	CTX_WRITE(c, user_ip4, e->addr.ip_be[3]);
	CTX_WRITE(c, user_port, bpf_htons(e->port));
}

static __always_inline void set_user6(struct bpf_sock_addr *c, const struct ambit_end *e)
{
	CTX_WRITE(c, user_ip6[0], e->addr.ip_be[0]);
	CTX_WRITE(c, user_ip6[1], e->addr.ip_be[1]);
	CTX_WRITE(c, user_ip6[2], e->addr.ip_be[2]);
	CTX_WRITE(c, user_ip6[3], e->addr.ip_be[3]);
	CTX_WRITE(c, user_port, bpf_htons(e->port));
}

#endif
