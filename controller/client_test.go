package controller

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/client"
)

// keeper is a client's handler: it keeps what is valid and tells when something came.
type keeper struct {
	mu   sync.Mutex
	addr map[string]*workload.Address
	pol  map[string]bool
	came chan struct{}
}

func (k *keeper) Handle(b client.Batch) map[string]error {
	k.mu.Lock()
	defer k.mu.Unlock()
	rejected := map[string]error{}
	for _, r := range b.Resources {
		if b.TypeURL == authz.TypeURL {
			k.pol[r.Name] = true
			continue
		}
		a := &workload.Address{}
		if err := proto.Unmarshal(r.Body, a); err != nil {
			rejected[r.Name] = err
			continue
		}
		k.addr[r.Name] = a
	}
	for _, name := range b.Removed {
		delete(k.addr, name)
		delete(k.pol, name)
	}
	return rejected
}

func (k *keeper) Flush() {
	select {
	case k.came <- struct{}{}:
	default:
	}
}

func (k *keeper) until(t *testing.T, ok func() bool) {
	t.Helper()
	limit := time.After(timeout)
	for {
		k.mu.Lock()
		good := ok()
		k.mu.Unlock()
		if good {
			return
		}
		select {
		case <-k.came:
		case <-limit:
			t.Fatal("the client was not told")
		}
	}
}

// TestOurClient: the client of our node proxies, with its credentials from files, is configured and told every change.
func TestOurClient(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	base := t.TempDir()
	r := start(t, base)
	r.write(t, "world.yaml", world)
	r.write(t, "policy.yaml", denyPolicy)
	token := filepath.Join(base, "token")
	if err := os.WriteFile(token, []byte(r.key.mint(ztunnel("n1"))+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	node, err := client.Node(client.NodeConfig{Pod: "ztunnel-x", Namespace: "ambit-system", Node: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{addr: map[string]*workload.Address{}, pol: map[string]bool{}, came: make(chan struct{}, 1)}
	c := client.New(client.Config{
		Conn: client.ConnConfig{Address: r.grpc, AltName: "ambit-controller.ambit-system.svc", RootFile: filepath.Join(base, "root-cert.pem"), TokenFile: token},
		Node: node, Types: []client.Type{{URL: workload.AddressTypeURL}, {URL: authz.TypeURL}}, Handler: k, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	k.until(t, func() bool { return k.pol["shop/web"] && k.addr[webUID] != nil })
	if got := k.addr[webUID].GetWorkload().AuthorizationPolicies; len(got) != 1 || got[0] != "shop/web" {
		t.Errorf("policies of the workload: %v", got)
	}
	r.write(t, "new.yaml", "{apiVersion: v1, kind: Service, metadata: {name: new, namespace: shop}, spec: {clusterIP: 10.96.0.7, ports: [{port: 80}]}}")
	k.until(t, func() bool { return k.addr["shop/new.shop.svc.cluster.local"] != nil })
	cancel()
	<-ended
}
