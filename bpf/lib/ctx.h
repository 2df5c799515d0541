/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Fields of a hook's context, each by a constant offset from the context's own pointer. Left to itself clang folds the branches
 * of the two families into one access through a pointer that it has moved, and the verifier refuses that ("dereference of
 * modified ctx ptr").
 */
#ifndef AMBIT_CTX_H
#define AMBIT_CTX_H

#include "include/bpf.h"

#define CTX_READ(c, field)                                                                                   \
	({                                                                                                   \
		__u32 _v;                                                                                    \
		asm volatile("%[v] = *(u32 *)(%[p] + %[off])"                                                \
			     : [v] "=r"(_v)                                                                  \
			     : [p] "r"(c), [off] "i"(__builtin_offsetof(typeof(*(c)), field)));              \
		_v;                                                                                          \
	})

#define CTX_WRITE(c, field, value)                                                                           \
	({                                                                                                   \
		__u32 _v = (value);                                                                          \
		asm volatile("*(u32 *)(%[p] + %[off]) = %[v]"                                                \
			     :                                                                               \
			     : [v] "r"(_v), [p] "r"(c), [off] "i"(__builtin_offsetof(typeof(*(c)), field))   \
			     : "memory");                                                                    \
	})

/* Sixteen bytes of four fields, as an address. */
#define CTX_READ_ADDR(c, field)                                                                              \
	({                                                                                                   \
		struct ambit_addr _a = { { CTX_READ(c, field[0]), CTX_READ(c, field[1]), CTX_READ(c, field[2]), \
					   CTX_READ(c, field[3]) } };                                        \
		_a;                                                                                          \
	})

#endif
