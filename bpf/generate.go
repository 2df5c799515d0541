// Package bpf is the kernel side of the datapath: compiled programs, and Go types of what they share with user space. It is
// generated from the C files beside it; README.md tells what each does. Only agent/datapath imports it.
package bpf

// The objects are committed and the same on every machine: rebuild with Debian's clang 14 and `go generate ./bpf`.

//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -type ambit_role -type ambit_kind -type ambit_pod_flag Connect connect.bpf.c -- -Wall -Werror -I. -Iinclude
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -no-global-types Udp udp.bpf.c -- -Wall -Werror -I. -Iinclude
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -no-global-types Bind bind.bpf.c -- -Wall -Werror -I. -Iinclude
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -no-global-types Names names.bpf.c -- -Wall -Werror -I. -Iinclude
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -no-global-types Release release.bpf.c -- -Wall -Werror -I. -Iinclude
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -no-global-types Sockops sockops.bpf.c -- -Wall -Werror -I. -Iinclude
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -no-global-types Lookup lookup.bpf.c -- -Wall -Werror -I. -Iinclude
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -no-global-types Egress egress.bpf.c -- -Wall -Werror -I. -Iinclude
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -no-global-types Older older.bpf.c -- -Wall -Werror -I. -Iinclude
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -no-global-types Destroy destroy.bpf.c -- -Wall -Werror -I. -Iinclude
