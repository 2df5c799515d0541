//go:build ignore
// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* The last close() of a socket: whatever its handshake still holds is freed. Attached to the cgroup root. */
#include "lib/slot.h"
#include "lib/license.h"

SEC("cgroup/sock_release")
int ambit_release(struct bpf_sock *sk)
{
	slot_free(bpf_get_socket_cookie(sk));
	return 1;
}
