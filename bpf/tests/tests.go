// Package tests holds the oracle test: the kernel's verdict functions, run in the kernel, against their model in
// agent/datapath/plan. Nobody imports it.
package tests

//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel Verdict verdict.bpf.c -- -Wall -Werror -I.. -I../include
