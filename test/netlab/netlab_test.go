package netlab_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/test/netlab"
	"github.com/ambit-mesh/ambit/test/netlab/labtest"
	"github.com/ambit-mesh/ambit/test/programs/result"
)

// Two pods on two nodes reach each other over both families, resolve names, are probed; a deleted pod is gone; a lab that
// is down has left nothing.
func TestLabCarriesPlainTraffic(t *testing.T) {
	ctx := t.Context()
	lab := labtest.Up(t, "plain")
	a := addPod(t, lab, "shop", "a", "n1")
	b := addPod(t, lab, "shop", "b", "n2")
	server := start(t, lab, b, "echo", "--listen", ":7000")
	if err := lab.WaitListening(ctx, server, 7000, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{b.IP4().String() + ":7000", "[" + b.IP6().String() + "]:7000"} {
		var seen result.Peer
		run(t, lab, a, &seen, "peername", to)
		if seen.Remote != to {
			t.Errorf("getpeername: %s, want %s", seen.Remote, to)
		}
		if want := "b saw " + seen.Local + " at " + to; !strings.HasPrefix(seen.Answer, want) {
			t.Errorf("the server answers %q, want %q", seen.Answer, want)
		}
	}
	var answer result.DNS
	run(t, lab, a, &answer, "dns", "outside.example")
	if len(answer.Answers) != 1 || answer.Answers[0] != "192.0.2.1" {
		t.Errorf("name outside the cluster: %+v", answer)
	}
	if out, err := lab.Probe(ctx, "n2", "tcp://"+b.IP4().String()+":7000"); err != nil || out.Err() != nil {
		t.Errorf("kubelet's probe: %v %v", err, out.Err())
	}
	if err := lab.CheckPod(ctx, b.Ref()); err != nil {
		t.Error(err)
	}
	if err := lab.DeletePod(ctx, b.Ref()); err != nil {
		t.Error(err)
	}
	if server.Alive() {
		t.Error("the deleted pod's server still runs")
	}
	if _, err := os.Stat(b.Netns); !os.IsNotExist(err) {
		t.Errorf("the deleted pod's namespace: %v", err)
	}
}

// A lab whose builder died half way is found by its state and removed.
func TestDownFindsAnAbandonedLab(t *testing.T) {
	lab := labtest.Up(t, "orphan")
	pod := addPod(t, lab, "shop", "a", "n1")
	start(t, lab, pod, "echo", "--listen", ":7000")
	again, err := netlab.Open(lab.Name())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(lab.Dir(), "manifests")); err != nil {
		t.Fatal(err)
	}
	if err := again.Down(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := again.Down(context.WithoutCancel(t.Context())); err != nil {
		t.Errorf("down once more: %v", err)
	}
	if _, err := netlab.Open(lab.Name()); err == nil {
		t.Error("the lab can still be opened")
	}
}

func TestUpRefusesASecondLabOfTheSameName(t *testing.T) {
	lab := labtest.Up(t, "twice")
	_, err := netlab.Up(t.Context(), labtest.Config(t, lab.Name()))
	if err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Fatalf("second lab: %v", err)
	}
	if _, err := netlab.Open(lab.Name()); err != nil {
		t.Errorf("the refusal harmed the first lab: %v", err)
	}
}

func TestBadNamesAreRefused(t *testing.T) {
	for _, name := range []string{"", "../x", "Upper", "a-b", "averyveryverylongname", "1st"} {
		if _, err := netlab.Up(t.Context(), netlab.Config{Name: name}); err == nil || !strings.Contains(err.Error(), "no name") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func addPod(t *testing.T, lab *netlab.Lab, namespace, name, node string) netlab.Pod {
	t.Helper()
	pod, err := lab.AddPod(t.Context(), netlab.PodSpec{Namespace: namespace, Name: name, Node: node})
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

func start(t *testing.T, lab *netlab.Lab, pod netlab.Pod, argv ...string) netlab.Process {
	t.Helper()
	p, err := lab.Start(netlab.Spec{Name: pod.Name + "-" + argv[0], Pod: pod.Ref(), Argv: append([]string{"labprog"}, argv...)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func run(t *testing.T, lab *netlab.Lab, pod netlab.Pod, into any, argv ...string) {
	t.Helper()
	out, err := lab.Exec(t.Context(), netlab.Spec{Pod: pod.Ref(), Argv: append([]string{"labprog"}, argv...)})
	if err == nil {
		err = out.Err()
	}
	if err == nil {
		err = json.Unmarshal([]byte(out.Stdout), into)
	}
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(argv, " "), err)
	}
}
