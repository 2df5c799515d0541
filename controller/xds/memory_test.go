package xds

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/auth"
)

// fleet is the environment variable that makes this test's binary a fleet of clients in a process of its own: the server's
// address, how many, and how many resources they hold already.
const fleet = "AMBIT_TEST_XDS_FLEET"

// TestManyAtOnce: fifty clients that start with nothing at once, and then fifty that hold everything, cost a server of 30,000
// workloads less than 100 MiB, and those that hold everything are sent no resource.
func TestManyAtOnce(t *testing.T) {
	if spec := os.Getenv(fleet); spec != "" {
		runFleet(t, spec)
		return
	}
	const workloads, clients, limit = 30_000, 50, 100 << 20
	tab := NewTable()
	all := map[string]*workload.Address{}
	for i := range workloads {
		a := wl(fmt.Sprintf("some-deployment-7d9c5b%05d-x", i), fmt.Sprintf("node-%d.example.internal", i%300), "", fmt.Sprintf("ns/svc-%d.ns.svc.cluster.local", i/10))
		w := a.GetWorkload()
		w.Addresses = [][]byte{binary.BigEndian.AppendUint32(nil, 0x0a000000+uint32(i))}
		w.CanonicalName, w.WorkloadName, w.ServiceAccount, w.ClusterId = "some-deployment", "some-deployment", "some-account", "cluster-one"
		w.Locality = &workload.Locality{Region: "europe-west1", Zone: "europe-west1-b"}
		all[w.Uid] = a
	}
	if err := tab.Publish(all, nil, epoch); err != nil {
		t.Fatal(err)
	}
	all = nil
	srv := New(Config{Table: tab, Auth: auth.Calls{Tokens: anyNode{}}, Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry())})
	gs := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{selfSigned(t)}})), grpc.ForceServerCodecV2(Codec()),
		grpc.MaxRecvMsgSize(64<<20), grpc.StaticStreamWindowSize(64<<10), grpc.StaticConnWindowSize(1<<20), grpc.ReadBufferSize(0))
	discovery.RegisterAggregatedDiscoveryServiceServer(gs, srv)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- gs.Serve(lis) }()
	t.Cleanup(func() { gs.Stop(); <-served })

	for _, held := range []int{0, workloads} {
		debug.FreeOSMemory()
		before := memoryNow()
		stop, peak := watchMemory()
		cpu := cpuNow()
		cmd := exec.Command(os.Args[0], "-test.run=^TestManyAtOnce$", "-test.v")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s,%d,%d", fleet, lis.Addr(), clients, held))
		start := time.Now()
		out, err := cmd.CombinedOutput()
		close(stop)
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		grew := int64(<-peak) - int64(before)
		t.Logf("held %d: +%d MiB over %d MiB, %s of CPU here, %s", held, grew>>20, before>>20, cpuNow()-cpu, time.Since(start))
		if grew > limit {
			t.Errorf("%d clients that held %d resources cost %d MiB", clients, held, grew>>20)
		}
	}
}

// anyNode gives every client a node of its own.
type anyNode struct{}

func (anyNode) Authenticate(_ context.Context, token string) (auth.Caller, error) {
	return auth.Caller{Namespace: "sys", ServiceAccount: "z", Node: token}, nil
}

func memoryNow() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64() - s[1].Value.Uint64()
}

func watchMemory() (stop chan struct{}, peak chan uint64) {
	stop, peak = make(chan struct{}), make(chan uint64, 1)
	go func() {
		var most uint64
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			most = max(most, memoryNow())
			select {
			case <-stop:
				peak <- most
				return
			case <-tick.C:
			}
		}
	}()
	return stop, peak
}

// runFleet connects all at once; each is done when both types were answered.
func runFleet(t *testing.T, spec string) {
	part := strings.Split(spec, ",")
	clients, _ := strconv.Atoi(part[1])
	held, _ := strconv.Atoi(part[2])
	first := &discovery.DeltaDiscoveryRequest{TypeUrl: workload.AddressTypeURL, Node: &core.Node{Id: "ztunnel~10.0.0.1~z.sys~x"}}
	var data []byte
	if held > 0 { // one client fetches what the others then hold
		first.InitialResourceVersions = map[string]string{}
		open(t, part[0], "fetch", nil, func(b []byte) {
			var res discovery.DeltaDiscoveryResponse
			if err := proto.Unmarshal(b, &res); err != nil {
				t.Error(err)
			}
			if res.TypeUrl == workload.AddressTypeURL {
				for _, r := range res.Resources {
					first.InitialResourceVersions[r.Name] = r.Version
				}
			}
		})
		if len(first.InitialResourceVersions) != held {
			t.Fatalf("fetched %d of %d", len(first.InitialResourceVersions), held)
		}
	}
	data, err := proto.Marshal(first)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var resources atomic.Int64
	for i := range clients {
		wg.Go(func() {
			open(t, part[0], fmt.Sprint("n", i), data, func(b []byte) { resources.Add(int64(countResources(b))) })
		})
	}
	wg.Wait()
	if want := map[bool]int64{true: 0, false: int64(clients) * 30_000}[held > 0]; resources.Load() != want {
		t.Errorf("sent %d resources, want %d", resources.Load(), want)
	}
}

func countResources(b []byte) (n int) {
	for in := (fields{piece: b}); ; {
		switch num, _, err := in.next(); {
		case err != nil || num == 0:
			return n
		case num == 2:
			n++
		}
	}
}

// open is one client, from nothing to both types answered.
func open(t *testing.T, addr, token string, first []byte, got func([]byte)) {
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bytesCodec{}), grpc.MaxCallRecvMsgSize(200<<20)))
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+token), 5*time.Minute)
	defer cancel()
	st, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, discovery.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName)
	if err != nil {
		t.Error(err)
		return
	}
	node := &core.Node{Id: "ztunnel~10.0.0.1~z.sys~x"}
	if first == nil {
		first, _ = proto.Marshal(&discovery.DeltaDiscoveryRequest{TypeUrl: workload.AddressTypeURL, Node: node})
	}
	second, _ := proto.Marshal(&discovery.DeltaDiscoveryRequest{TypeUrl: authz.TypeURL, Node: node})
	for _, b := range [][]byte{first, second} {
		if err := st.SendMsg(b); err != nil && err != io.EOF {
			t.Error(err)
		}
	}
	for range 2 {
		var b []byte
		if err := st.RecvMsg(&b); err != nil {
			t.Error(err)
			return
		}
		got(b)
	}
}

// bytesCodec leaves messages as they are.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }
func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = slices.Clone(data.Materialize())
	return nil
}

var _ encoding.CodecV2 = bytesCodec{}
