# Ambit. Bare `make` says what there is. Everything needs Go; demo, test and bench need root on Linux.
SHELL := /bin/bash
BIN   := build/bin
CNI   := build/cni
export CGO_ENABLED ?= 0
# Debian packages that building, testing and the demo need, and a command that shows each is there.
PACKAGES := gcc:gcc libc6-dev:/usr/include/stdlib.h clang:clang llvm:llvm-strip libbpf-dev:/usr/include/bpf/bpf_helpers.h \
	protobuf-compiler:protoc libprotobuf-dev:/usr/include/google/protobuf/any.proto iproute2:ip nginx:nginx redis-server:redis-server postgresql:/usr/share/postgresql-common/pg_wrapper \
	curl:curl tcpdump:tcpdump kmod:modprobe
CLUSTER_PACKAGES := containerd:containerd runc:runc containernetworking-plugins:/usr/lib/cni/bridge nftables:nft \
	iptables:iptables conntrack:conntrack socat:socat
CLUSTER := $(BIN)/ambit-cluster
# Where `make apiserver-up` puts its files; the kubeconfig is in it.
APISERVER ?= /tmp/ambit-apiserver
VM_PACKAGES := qemu-system-x86:qemu-system-x86_64 busybox-static:/bin/busybox cpio:cpio kmod:modprobe

# Packages whose tests need root: kernel tests (layer 4) and the lab (layer 5).
ROOT_TESTS := ./bpf/... ./agent/... ./test/netlab/... ./test/demo/...

# Modules of their own, whose dependencies are not the product's.
MODULES := deploy/images deploy/chart

.DEFAULT_GOAL := help
.NOTPARALLEL: # what is missing is said and installed first
.PHONY: help preflight deps build build-lab images chart demo test test-unit test-root test-vm test-controller test-cluster e2e apiserver-up apiserver-down cluster-up cluster-down cluster-status lint fmt generate check fuzz bench bench-controller clean

help: ## this list
	@awk -F ':.*## ' '/^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Try it
demo: preflight deps build-lab ## two nodes, real programs, real policy: shows the mesh at work (KEEP=1 leaves it running)
	$(BIN)/ambit demo --report build/demo/report.json $(if $(KEEP),--keep) $(if $(ONLY),--only $(ONLY))

##@ Test
test: preflight deps test-unit test-root ## layers 1 to 5: everything that needs no Kubernetes (root)

test-unit: ## layers 1 to 3 and the architecture rules, with the race detector
	CGO_ENABLED=1 go test -race -count=1 -timeout 15m $$(go list ./... | grep -vE '/(bpf/tests|agent/datapath|test/netlab|test/demo)(/|$$)')
	AMBIT_TEST_REQUIRE=norace go test -count=1 -run '^TestIdleMemory$$' ./ztunnel
	@for m in $(MODULES); do echo "go test $$m"; go -C $$m test -count=1 ./... || exit 1; done
	go -C test/cluster test -trimpath -count=1 . # not its programs: to check those is to check all of Kubernetes

test-root: preflight build-lab ## layers 4 and 5: kernel programs and the lab (root)
	AMBIT_TEST_REQUIRE=root,cgroup2,mptcp go test -count=1 -p 1 -timeout 30m $(ROOT_TESTS)

test-vm: ## kernel tests and a small lab on another kernel: make test-vm KERNEL=6.1 (or 6.12)
	@test/deps.sh $(VM_PACKAGES)
	test/vm/run.sh $(or $(KERNEL),6.1)

test-controller: $(CLUSTER) ## the controller against a real API server, with the race detector
	CGO_ENABLED=1 $(CLUSTER) apiserver-test --dir build/apiserver -- go test -race -count=1 -p 1 -timeout 20m $(or $(PKG),./controller ./controller/kube) # the rest needs no server

test-cluster: ## clusters come up, work, survive reboots and crashes, and leave nothing (root)
	@test/deps.sh $(CLUSTER_PACKAGES)
	cd test/cluster && AMBIT_TEST_REQUIRE=cluster go test -trimpath -count=1 -timeout 40m -v -run 'TestLife|TestCrash' .

e2e: $(CLUSTER) ## the product on a real two-node cluster of IPv4 and IPv6, checked promise by promise (root; KEEP=1 leaves it running, ONLY=1,2, NODES=3)
	@test/deps.sh $(PACKAGES) $(CLUSTER_PACKAGES)
	go build -trimpath -o $(BIN)/ambit-e2e ./test/e2e
	go build -trimpath -o build/e2e/workload ./test/e2e/workload
	go build -trimpath -o build/e2e/labprog ./test/programs
	go build -trimpath -o $(BIN)/ambit ./cmd/ambit
	$(MAKE) -s images IMAGES="--arch $$(go env GOARCH)"
	$(CLUSTER) image build/e2e/workload docker.io/ambit/e2e:dev build/images/e2e.tar
	$(CLUSTER) image build/e2e/labprog docker.io/ambit/labprog:dev build/images/labprog.tar
	@trap '$(if $(KEEP),,$(CLUSTER) down)' EXIT; $(CLUSTER) up --dual --nodes $(or $(NODES),2) && $(BIN)/ambit-e2e $(if $(ONLY),--only $(ONLY))

fuzz: ## fuzz one package for a minute a target: make fuzz PKG=./ztunnel/hbone
	@set -eo pipefail; all=$$(go test $(or $(PKG),$(error which package? make fuzz PKG=./ztunnel/hbone)) -list '^Fuzz' | { grep ^Fuzz || { echo "no fuzz target in $(PKG)" >&2; exit 1; }; }); \
	for t in $$all; do CGO_ENABLED=1 go test $(PKG) -run '^$$' -fuzz "^$$t$$" -fuzztime $(or $(TIME),60s); done

##@ Kubernetes by hand, for tests
apiserver-up: $(CLUSTER) ## a real API server with the mesh's resources; prints its kubeconfig (for AMBIT_TEST_KUBECONFIG)
	@$(CLUSTER) apiserver-up --dir $(APISERVER)

apiserver-down: $(CLUSTER) ## stop it and remove its files
	@$(CLUSTER) apiserver-down --dir $(APISERVER)

cluster-up: $(CLUSTER) ## a real Kubernetes cluster on this machine (root; NODES=3, DUAL=1 for IPv6 too); prints its kubeconfig
	@test/deps.sh $(CLUSTER_PACKAGES)
	@$(CLUSTER) up --nodes $(or $(NODES),2) $(if $(DUAL),--dual)

cluster-down: $(CLUSTER) ## end it and leave nothing behind, after a crash too
	@$(CLUSTER) down

cluster-status: $(CLUSTER) ## what runs in it
	@$(CLUSTER) status

$(CLUSTER): $(wildcard test/cluster/manifests/*) $(wildcard test/cluster/*.go) test/cluster/go.mod test/cluster/go.sum
	@mkdir -p $(BIN)
	go build -C test/cluster -trimpath -o $(CURDIR)/$@ .

##@ Build
build: ## the programs, static, in build/bin
	@mkdir -p $(BIN)
	go build -trimpath -ldflags '-s -w' -o $(BIN)/ambit ./cmd/ambit
	@set -e; for c in $(filter-out ambit,$(notdir $(patsubst %/main.go,%,$(wildcard cmd/*/main.go)))); do \
		echo "go build $(BIN)/ambit-$$c"; go build -trimpath -ldflags '-s -w' -o $(BIN)/ambit-$$c ./cmd/$$c; done

build-lab: build ## the programs, the lab's helpers and the CNI plugins it chains behind
	@mkdir -p $(CNI)
	go build -trimpath -o $(BIN)/labprog ./test/programs
	GOBIN=$(CURDIR)/$(CNI) go install -trimpath $(addprefix github.com/containernetworking/plugins/plugins/,$(addsuffix @v1.9.1,main/ptp ipam/host-local))

images: ## OCI images of agent, ztunnel and controller in build/images, no Docker needed (IMAGES="--push --hub HOST/PATH --tag TAG")
	go -C deploy/images run . --source $(CURDIR) --out $(CURDIR)/build/images $(IMAGES)

chart: ## the Helm chart with CRDs, and plain manifests of it, in build/chart (CHART="--set hub=HOST/PATH --set tag=TAG")
	go -C deploy/chart run . --source $(CURDIR) --out $(CURDIR)/build/chart $(CHART)

##@ Keep it in order
preflight: ## say in one sentence why this machine cannot build and run a lab, if it cannot
	@test/preflight.sh

deps: ## install the Debian packages that are missing
	@test/deps.sh $(PACKAGES)

generate: ## rebuild eBPF objects and protobuf code (CI diffs the result)
	go generate ./bpf ./controller/api/... ./agent/api/...

lint: ## vet, staticcheck, formatting
	go vet ./...
	go tool staticcheck ./...
	@set -e; check=$$(go tool -n staticcheck); for m in $(MODULES); do echo "go vet, staticcheck $$m"; (cd $$m && go vet ./... && $$check ./...); done
	check=$$(go tool -n staticcheck) && cd test/cluster && go vet -trimpath . ./hello ./pause && $$check . ./hello ./pause
	@out=$$(git ls-files '*.go' | grep -vE '(\.pb|_bpfel|_bpfeb)\.go$$' | xargs go tool gofumpt -l); [ -z "$$out" ] || { echo "not gofumpt'ed: $$out"; exit 1; }

fmt: ## format the Go code
	git ls-files '*.go' | grep -vE '(\.pb|_bpfel|_bpfeb)\.go$$' | xargs go tool gofumpt -w

check: lint generate ## what CI checks before tests: lint, and that generated code is what the sources give
	git diff --exit-code -- '*.o' '*.pb.go' '*_bpfel.go'

clean: ## remove build products
	rm -rf build

##@ Measure
bench: preflight deps build-lab ## figures against no mesh and a floor, in build/bench (root, quiet machine)
	go build -trimpath -o $(BIN)/ambit-bench ./test/bench
	$(BIN)/ambit-bench $(BENCH)

bench-controller: ## figures of the controller with up to 50,000 pods, in build/bench/controller.json (quiet machine)
	go build -trimpath -o $(BIN)/ambit-bench-controller ./test/bench/controller
	$(BIN)/ambit-bench-controller $(BENCH)
