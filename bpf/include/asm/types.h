/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* linux/bpf.h wants the architecture's own types; for BPF they are the generic ones, and the objects build the same anywhere. */
#include <asm-generic/int-ll64.h>
