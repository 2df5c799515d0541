#!/bin/sh
# Regenerates the Go code of this folder's protobufs: protoc from Debian's protobuf-compiler, plugins from go.mod's tool
# lines. The line that names protoc's version is dropped, so that every protoc makes the same files.
set -eu
cd "$(dirname "$0")/../.."
protoc -I . \
	--plugin=protoc-gen-go="$(go tool -n protoc-gen-go)" \
	--plugin=protoc-gen-go-grpc="$(go tool -n protoc-gen-go-grpc)" \
	--go_out=. --go_opt=module=github.com/ambit-mesh/ambit \
	--go-grpc_out=. --go-grpc_opt=module=github.com/ambit-mesh/ambit \
	controller/api/workload/workload.proto \
	controller/api/authz/authorization.proto \
	controller/api/ca/ca.proto
sed -i '/^\/\/ .*protoc  *v[0-9]/d' controller/api/*/*.pb.go
