//go:build ignore
// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* The same, closed: strict capture. Linux 6.5 (bpf_sock_destroy). */
#include "lib/older.h"
#include "lib/license.h"

extern int bpf_sock_destroy(struct sock_common *sk) __ksym;

SEC("iter/tcp")
int ambit_destroy(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;

	if (!sk || !is_older(sk))
		return 0;
	if (!bpf_sock_destroy(sk))
		count(AMBIT_OUT_OLDER_DESTROYED);
	return 0;
}
