package handoff

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ambit-mesh/ambit/agent/api"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestWaitingConnectionsAreResetAfterTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var resets atomic.Int32
		var log strings.Builder
		s := New(Config{
			Absence: time.Minute, Log: slog.New(slog.NewTextHandler(&log, nil)), Metrics: NewMetrics(prometheus.NewRegistry()),
			Reset: func(fd int, kind api.ListenerKind) int {
				if fd != 77 || kind != api.ListenerKind_OUTBOUND {
					t.Errorf("reset of %d, %s", fd, kind)
				}
				resets.Add(1)
				return 3
			},
		})
		s.pods["a"] = &served{wire: pod("a"), kinds: []api.ListenerKind{api.ListenerKind_OUTBOUND}, fds: api.Fds{77}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.watchAbsence(ctx); close(done) }()
		until := func(d time.Duration) { time.Sleep(d); synctest.Wait() } // virtual time
		until(59*time.Second + 500*time.Millisecond)
		if resets.Load() != 0 {
			t.Errorf("%d resets before the limit", resets.Load())
		}
		until(3 * time.Second)
		if resets.Load() != 3 {
			t.Errorf("%d resets, want one a second from the 60th on", resets.Load())
		}
		if n := strings.Count(log.String(), "no ztunnel serves"); n != 1 {
			t.Errorf("said %d times: %s", n, log.String())
		}
		if got := testutil.ToFloat64(s.cfg.Metrics.resets); got != 9 {
			t.Errorf("%v connections counted, want 9", got)
		}
		// One that has only connected does not serve; one that has its snapshot does.
		c := &conn{}
		s.mu.Lock()
		s.conns[c] = true
		s.countLocked()
		s.mu.Unlock()
		until(time.Second)
		if resets.Load() != 4 {
			t.Errorf("%d resets, want them to go on", resets.Load())
		}
		s.mu.Lock()
		c.synced = true
		s.countLocked()
		s.mu.Unlock()
		until(time.Hour)
		if resets.Load() != 4 {
			t.Errorf("%d resets while a ztunnel serves", resets.Load())
		}
		s.mu.Lock()
		c.draining = true
		s.countLocked()
		s.mu.Unlock()
		until(61 * time.Second)
		if resets.Load() < 5 {
			t.Error("no reset although the only ztunnel drains")
		}
		cancel()
		<-done
	})
}

func TestPeerFiles(t *testing.T) {
	stat := "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987654 20"
	if born, err := bornAt(stat); err != nil || born != 987654 {
		t.Errorf("born %d, %v", born, err)
	}
	for _, bad := range []string{"", "1 (x", "1 (x) S 1", "1 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x"} {
		if _, err := bornAt(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
	for file, want := range map[string]string{
		"0::/kubepods/pod1/c\n":                       "/kubepods/pod1/c",
		"5:pids:/docker/x\n1:name=systemd:/y\n0::/\n": "/docker/x",
		"5:pids:/\n1:cpu:/y\n0::/\n":                  "/y",
		"0::/\n":                                      "/",
		"junk":                                        "",
	} {
		if got := cgroupOf(file); got != want {
			t.Errorf("%q gives %q, want %q", file, got, want)
		}
	}
	allow := AllowOne(1337, "/kubepods/pod1")
	for p, want := range map[Peer]bool{
		{UID: 1337, Cgroup: "/kubepods/pod1"}:    true,
		{UID: 1337, Cgroup: "/kubepods/pod1/c"}:  true,
		{UID: 1337, Cgroup: "/kubepods/pod12"}:   false,
		{UID: 1337, Cgroup: ""}:                  false,
		{UID: 0, Cgroup: "/kubepods/pod1"}:       false,
		{UID: 1337, Cgroup: "/x/kubepods/pod1/"}: false,
	} {
		if err := allow(p); (err == nil) != want {
			t.Errorf("%+v: %v", p, err)
		}
	}
}
