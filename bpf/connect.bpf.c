//go:build ignore
// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* connect(): captured, or refused, or left alone. Attached to the cgroup root. */
#include "lib/connect.h"
#include "lib/license.h"

/* Only so that their types reach the object, and from there Go. */
const volatile enum ambit_outcome outcomes = AMBIT_OUTCOMES;
const volatile enum ambit_port outbound_port = AMBIT_PORT_OUTBOUND;
const volatile __u32 abi = AMBIT_ABI;

SEC("cgroup/connect4")
int ambit_connect4(struct bpf_sock_addr *c)
{
	struct ambit_end dst = user4(c), to = {};
	int r = on_connect(c, &dst, &to);

	if (r == 2)
		set_user4(c, &to);
	return !!r;
}

SEC("cgroup/connect6")
int ambit_connect6(struct bpf_sock_addr *c)
{
	struct ambit_end dst = user6(c), to = {};
	int r = on_connect(c, &dst, &to);

	if (r == 2)
		set_user6(c, &to);
	return !!r;
}
