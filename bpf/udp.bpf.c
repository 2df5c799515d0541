//go:build ignore
// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* sendto() and recvfrom(): DNS to the pod's resolver and back. Attached to the cgroup root. */
#include "lib/connect.h"
#include "lib/license.h"

SEC("cgroup/sendmsg4")
int ambit_sendmsg4(struct bpf_sock_addr *c)
{
	struct ambit_end dst = user4(c), to = {};
	int r = on_sendmsg(c, &dst, &to);

	if (r == 2)
		set_user4(c, &to);
	return !!r;
}

SEC("cgroup/sendmsg6")
int ambit_sendmsg6(struct bpf_sock_addr *c)
{
	struct ambit_end dst = user6(c), to = {};
	int r = on_sendmsg(c, &dst, &to);

	if (r == 2)
		set_user6(c, &to);
	return !!r;
}

SEC("cgroup/recvmsg4")
int ambit_recvmsg4(struct bpf_sock_addr *c)
{
	struct ambit_end src = user4(c), as = {};

	if (on_recvmsg(c, &src, &as) == 2)
		set_user4(c, &as);
	return 1;
}

/* Answers to mapped senders arrive here too. */
SEC("cgroup/recvmsg6")
int ambit_recvmsg6(struct bpf_sock_addr *c)
{
	struct ambit_end src = user6(c), as = {};

	if (on_recvmsg(c, &src, &as) == 2)
		set_user6(c, &as);
	return 1;
}
