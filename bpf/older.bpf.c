//go:build ignore
// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Connections that are older than the pod's enrolment: tagged, so that the backstop knows them. Run once in the pod's network
 * namespace, after the hooks are in force there.
 */
#include "lib/older.h"
#include "lib/license.h"

SEC("iter/tcp")
int ambit_older(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;
	struct ambit_own older = { .role = AMBIT_ROLE_OLDER };

	if (!sk || !is_older(sk))
		return 0;
	if (bpf_sk_storage_get(&ambit_own, sk, &older, BPF_SK_STORAGE_GET_F_CREATE))
		count(AMBIT_OUT_OLDER_TAGGED);
	return 0;
}
