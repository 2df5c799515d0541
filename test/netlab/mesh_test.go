package netlab_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/test/netlab"
	"github.com/ambit-mesh/ambit/test/netlab/labtest"
	"github.com/ambit-mesh/ambit/test/netlab/mesh"
	"github.com/ambit-mesh/ambit/test/programs/result"
)

// small is a lab with a mesh in it and, in an enrolled namespace, a client on one node and a server on the other. It needs
// no program but our own, so that it also runs on a bare kernel in a VM.
type small struct {
	*testing.T
	lab            *netlab.Lab
	mesh           *mesh.Mesh
	client, server netlab.Pod
}

func newSmall(t *testing.T, name string) *small {
	t.Helper()
	s := &small{T: t, lab: labtest.Up(t, name)}
	var err error
	if s.mesh, err = mesh.Start(t.Context(), s.lab, mesh.Options{}); err != nil {
		t.Fatal(err)
	}
	s.must(s.lab.SetNamespace("shop", map[string]string{"istio.io/dataplane-mode": "ambient"}))
	s.client, s.server = s.pod("shop", "client", "n1"), s.pod("shop", "server", "n2")
	s.echo(s.server)
	return s
}

func (s *small) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *small) pod(namespace, name, node string) netlab.Pod {
	s.Helper()
	pod, err := s.lab.AddPod(s.Context(), netlab.PodSpec{
		Namespace: namespace, Name: name, Node: node, ServiceAccount: name, Labels: map[string]string{"app": name},
	})
	s.must(err)
	return pod
}

func (s *small) echo(pod netlab.Pod) {
	s.Helper()
	p, err := s.lab.Start(netlab.Spec{Name: pod.Name + "-echo", Pod: pod.Ref(), Argv: []string{"labprog", "echo", "--quiet"}})
	s.must(err)
	s.must(s.lab.WaitListening(s.Context(), p, 7000, 10*time.Second))
}

// talk makes one connection and returns what both ends saw.
func (s *small) talk(from netlab.Pod, to string) (seen result.Peer, err error) {
	out, err := s.lab.Exec(s.Context(), netlab.Spec{Pod: from.Ref(), Argv: []string{"labprog", "peername", to}})
	if err := errors.Join(err, out.Err()); err != nil {
		return seen, err
	}
	return seen, json.Unmarshal([]byte(out.Stdout), &seen)
}

// eventually is for what a watched folder brings about.
func (s *small) eventually(what string, try func() error) {
	s.Helper()
	if err := netlab.Poll(s.Context(), time.Minute, try); err != nil {
		s.Fatalf("%s: %v", what, err)
	}
}

func (s *small) encrypted() float64 {
	s.Helper()
	metrics, err := s.mesh.Metrics(s.Context(), "n2")
	s.must(err)
	return metrics.Sum("istio_tcp_connections_opened", map[string]string{"reporter": "destination", "connection_security_policy": "mutual_tls"})
}

// The mesh carries both families and Services with mutual TLS, both ends see each other as they are, policy is enforced.
func TestSmallLab(t *testing.T) {
	s := newSmall(t, "mesh")
	svc, err := s.lab.PutService("shop", "server", map[string]string{"app": "server"}, map[int]int{80: 7000})
	s.must(err)
	for _, to := range []string{
		s.server.IP4().String() + ":7000", "[" + s.server.IP6().String() + "]:7000", svc.Spec.ClusterIPs[0] + ":80", "[" + svc.Spec.ClusterIPs[1] + "]:80",
	} {
		before := s.encrypted()
		var seen result.Peer
		s.eventually("connect to "+to, func() (err error) { seen, err = s.talk(s.client, to); return err })
		client := s.client.IP4().String()
		if strings.HasPrefix(to, "[") {
			client = s.client.IP6().String()
		}
		if seen.Remote != to || !strings.Contains(seen.Answer, client) {
			t.Errorf("%s: the client sees %s, the server says %q, want client %s", to, seen.Remote, seen.Answer, client)
		}
		s.eventually("the connection to "+to+" is counted", func() error {
			if s.encrypted() <= before {
				return errors.New("no connection with mutual TLS")
			}
			return nil
		})
	}
	stranger := s.pod("outside", "stranger", "n1")
	if _, err := s.talk(stranger, s.server.IP4().String()+":7000"); err != nil {
		t.Errorf("plaintext without a policy: %v", err)
	}
	s.must(s.lab.Apply("strict", []byte("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: shop}\nspec: {mtls: {mode: STRICT}}\n")))
	s.eventually("STRICT refuses plaintext", func() error {
		if seen, err := s.talk(stranger, s.server.IP4().String()+":7000"); err == nil {
			return fmt.Errorf("let in: %+v", seen)
		}
		return nil
	})
	if _, err := s.talk(s.client, s.server.IP4().String()+":7000"); err != nil {
		t.Errorf("under STRICT, from the mesh: %v", err)
	}
}

// The ztunnel has no privilege, seen from outside.
func TestZtunnelHasNoPrivileges(t *testing.T) {
	s := newSmall(t, "uid")
	p, err := s.lab.Process(mesh.ZtunnelName("n1"))
	s.must(err)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
	s.must(err)
	const none = "\t0000000000000000\n"
	for _, want := range []string{
		"\nUid:\t1337\t1337\t1337\t1337\n", "\nGid:\t1337\t1337\t1337\t1337\n", "\nNoNewPrivs:\t1\n",
		"\nCapInh:" + none, "\nCapPrm:" + none, "\nCapEff:" + none, "\nCapBnd:" + none, "\nCapAmb:" + none,
	} {
		if !strings.Contains(string(status), want) {
			t.Errorf("no %q in the status of the ztunnel", strings.TrimSpace(want))
		}
	}
}

// Pods that come and go leave nothing: no link, no descriptor in agent or ztunnel. Stocks of sockets and pools may grow a
// little with use; what each pod leaves would show thirty times.
func TestPodsLeaveNothing(t *testing.T) {
	s := newSmall(t, "leak")
	_, err := s.talk(s.client, s.server.IP4().String()+":7000")
	s.must(err)
	links, err := s.lab.Links()
	s.must(err)
	const pods, slack = 30, 16
	before := map[string]int{}
	for _, name := range []string{mesh.AgentName("n1"), mesh.ZtunnelName("n1"), mesh.AgentName("n2"), mesh.ZtunnelName("n2")} {
		before[name] = s.descriptors(name)
	}
	for i := range pods {
		pod := s.pod("shop", fmt.Sprintf("guest-%d", i), "n1")
		if _, err := s.talk(pod, s.server.IP4().String()+":7000"); err != nil {
			t.Errorf("%s: %v", pod.Ref(), err)
		}
		s.must(s.lab.DeletePod(s.Context(), pod.Ref()))
	}
	// A tunnel whose client's namespace went away is noticed by its ping: 10 s until it is sent, 20 s for the answer.
	s.eventually("nothing is left of the pods", func() error {
		now, err := s.lab.Links()
		if err != nil || !slices.Equal(now, links) {
			return fmt.Errorf("links %v became %v: %w", links, now, err)
		}
		for name, n := range before {
			if now := s.descriptors(name); now > n+slack {
				return fmt.Errorf("%s has %d descriptors, had %d before %d pods", name, now, n, pods)
			}
		}
		return nil
	})
}

func (s *small) descriptors(name string) int {
	s.Helper()
	p, err := s.lab.Process(name)
	s.must(err)
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.PID))
	s.must(err)
	return len(entries)
}

// Another tool rewrites the node's CNI configuration: the agent chains its plugin in again.
func TestConfigurationIsRepaired(t *testing.T) {
	s := newSmall(t, "cni")
	file := filepath.Join(s.lab.NetD("n1"), "10-lab.conflist")
	content, err := os.ReadFile(file)
	s.must(err)
	if !strings.Contains(string(content), "ambit-cni") {
		t.Fatalf("the plugin is not in %s", content)
	}
	var list map[string]any
	s.must(json.Unmarshal(content, &list))
	list["plugins"] = list["plugins"].([]any)[:1]
	plain, err := json.Marshal(list)
	s.must(err)
	s.must(os.WriteFile(file, plain, 0o644))
	s.eventually("the plugin is back", func() error {
		content, err := os.ReadFile(file)
		if err == nil && !strings.Contains(string(content), "ambit-cni") {
			err = errors.New("not yet")
		}
		return err
	})
	pod := s.pod("shop", "late", "n1")
	if in, err := s.mesh.Enrolled(pod); err != nil || !in {
		t.Errorf("a pod made after the repair: enrolled %t, %v", in, err)
	}
}

// With no agent on its node, a pod of the mesh does not start.
func TestNoPodStartsPastTheMesh(t *testing.T) {
	s := newSmall(t, "closed")
	s.must(s.mesh.Kill(s.Context(), mesh.AgentName("n1")))
	_, err := s.lab.AddPod(s.Context(), netlab.PodSpec{Namespace: "shop", Name: "late", Node: "n1"})
	if err == nil || !strings.Contains(err.Error(), "must not start") {
		t.Errorf("a pod without an agent: %v", err)
	}
	if _, err := s.lab.Pod("shop/late"); err == nil {
		t.Error("the pod that could not start is still there")
	}
	s.must(s.mesh.StartAgent(context.WithoutCancel(s.Context()), "n1"))
	s.pod("shop", "later", "n1")
}
