//go:build ignore
// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Wrappers that let BPF_PROG_RUN ask the verdict functions: the hooks themselves cannot be driven. The context is the question,
 * with room for the answer behind it.
 */
#include "../lib/verdict.h"
#include "../lib/license.h"

struct connect_case {
	struct ambit_ask q;
	struct ambit_answer a;
};
struct lookup_case {
	struct ambit_syn q;
	struct ambit_answer a;
};
struct egress_case {
	struct ambit_packet q;
	struct ambit_answer a;
};
/* Their types must reach the object. */
const volatile struct connect_case connect_type = {};
const volatile struct lookup_case lookup_type = {};
const volatile struct egress_case egress_type = {};

#define COPY(to, from) __builtin_memcpy(to, from, sizeof(*(to)))

SEC("syscall")
int test_connect(struct connect_case *c)
{
	struct ambit_answer a = {};
	struct ambit_ask q;

	COPY(&q, &c->q);
	verdict_connect(&q, &a);
	COPY(&c->a, &a);
	return 0;
}

SEC("syscall")
int test_bind(struct connect_case *c)
{
	struct ambit_answer a = {};
	struct ambit_ask q;

	COPY(&q, &c->q);
	verdict_bind(&q, &a);
	COPY(&c->a, &a);
	return 0;
}

SEC("syscall")
int test_lookup(struct lookup_case *c)
{
	struct ambit_answer a = {};
	struct ambit_syn q;

	COPY(&q, &c->q);
	verdict_lookup(&q, &a);
	COPY(&c->a, &a);
	return 0;
}

SEC("syscall")
int test_egress(struct egress_case *c)
{
	struct ambit_answer a = {};
	struct ambit_packet q;

	COPY(&q, &c->q);
	verdict_egress(&q, &a);
	COPY(&c->a, &a);
	return 0;
}
