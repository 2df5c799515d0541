package cert_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/ztunnel/cert"
	"github.com/ambit-mesh/ambit/ztunnel/cert/certtest"
)

var (
	web  = certtest.ID("shop/web")
	cart = certtest.ID("shop/cart")
)

// run makes a store on ca and runs it for the length of the test's bubble.
func run(t *testing.T, ca *certtest.CA, edit func(*cert.Config)) *cert.Store {
	t.Helper()
	cfg := cert.Config{Signer: ca, Log: slog.New(slog.DiscardHandler), Rand: func() float64 { return 0.5 }}
	if edit != nil {
		edit(&cfg)
	}
	s, err := cert.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return s
}

func get(t *testing.T, s *cert.Store, id spiffe.ID) *cert.Certificate {
	t.Helper()
	crt, err := s.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return crt
}

func bubble(t *testing.T, f func(t *testing.T)) { t.Helper(); synctest.Test(t, f) }

func TestConcurrentRequestsShareOneFetch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ca := certtest.New(t)
		ca.Intercept(func(context.Context, spiffe.ID) error { time.Sleep(time.Second); return nil })
		s := run(t, ca, nil)
		var wg sync.WaitGroup
		var first atomic.Pointer[cert.Certificate]
		for range 100 {
			wg.Go(func() {
				crt := get(t, s, web)
				if !first.CompareAndSwap(nil, crt) && first.Load() != crt {
					t.Error("different certificates")
				}
			})
		}
		wg.Wait()
		if n := len(ca.Calls()); n != 1 {
			t.Errorf("%d calls", n)
		}
		if st := s.Status(); len(st) != 1 || st[0].State != "Available" || len(st[0].Chain) != 1 || len(st[0].Roots) != 1 {
			t.Errorf("status %+v", st)
		}
	})
}

func TestRenewalAtHalfLife(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ca := certtest.New(t)
		rotated := make(chan uint64, 100)
		s := run(t, ca, func(c *cert.Config) {
			c.OnRotate = func(crt *cert.Certificate) { rotated <- crt.Generation }
		})
		release := s.Hold(web)
		defer release()
		first := get(t, s, web)
		time.Sleep(12*time.Hour - time.Minute)
		if got := get(t, s, web); got != first || len(ca.Calls()) != 1 {
			t.Fatalf("renewed early: %d calls", len(ca.Calls()))
		}
		time.Sleep(2 * time.Minute)
		second := get(t, s, web)
		if second == first || second.Generation <= first.Generation {
			t.Fatalf("generation %d after %d", second.Generation, first.Generation)
		}
		synctest.Wait()
		if got := <-rotated; got != second.Generation || len(rotated) != 0 {
			t.Errorf("told of %d, and %d more", got, len(rotated))
		}
		time.Sleep(10 * 24 * time.Hour)
		if n := len(ca.Calls()); n != 21 && n != 22 {
			t.Errorf("%d calls in ten days more", n)
		}
	})
}

// TestFailuresKeepAValidCertificate: the CA is away from the first renewal until after expiry.
func TestFailuresKeepAValidCertificate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ca := certtest.New(t)
		s := run(t, ca, nil)
		defer s.Hold(web)()
		first := get(t, s, web)
		away := errors.New("no CA here")
		ca.Intercept(func(context.Context, spiffe.ID) error { return away })
		time.Sleep(24*time.Hour - time.Second)
		if got := get(t, s, web); got != first {
			t.Fatal("another certificate from nowhere")
		}
		if st := s.Status()[0].State; st != "Available" {
			t.Errorf("state %q", st)
		}
		time.Sleep(2 * time.Second)
		if _, err := s.Get(t.Context(), web); !errors.Is(err, cert.ErrUnavailable) || !errors.Is(err, away) {
			t.Fatalf("after expiry: %v", err)
		}
		if _, ok := s.Current(web); ok {
			t.Error("an expired certificate is current")
		}
		if st := s.Status()[0].State; st != "Unavailable: no CA here" {
			t.Errorf("state %q", st)
		}
		// It comes back within the longest backoff.
		ca.Intercept(nil)
		time.Sleep(151 * time.Second)
		if got := get(t, s, web); got == first {
			t.Error("the expired certificate is back")
		}
	})
}

func TestBackoff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ca := certtest.New(t)
		var at []time.Duration
		start := time.Now()
		ca.Intercept(func(context.Context, spiffe.ID) error {
			at = append(at, time.Since(start))
			return errors.New("no")
		})
		s := run(t, ca, nil)
		defer s.Hold(web)()
		if _, err := s.Get(t.Context(), web); err == nil {
			t.Fatal("a certificate from a CA that refuses")
		}
		// Callers fail at once with the cached answer and do not hurry the CA.
		for range 100 {
			if _, err := s.Get(t.Context(), web); !errors.Is(err, cert.ErrUnavailable) {
				t.Fatal(err)
			}
		}
		time.Sleep(600 * time.Second)
		synctest.Wait() // also tells the race detector that the hook is not running
		want := []time.Duration{0, 1, 3, 7, 15, 31, 63, 127, 255, 405, 555}
		for i := range want {
			want[i] *= time.Second
		}
		if !slices.Equal(at, want) {
			t.Errorf("asked at %v, want %v", at, want)
		}
		ca.Intercept(nil)
		time.Sleep(150 * time.Second)
		get(t, s, web)
	})
}

func TestBackoffResetsOnSuccess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ca := certtest.New(t)
		var fail atomic.Int32
		fail.Store(5)
		ca.Intercept(func(context.Context, spiffe.ID) error {
			if fail.Add(-1) >= 0 {
				return errors.New("no")
			}
			return nil
		})
		s := run(t, ca, nil)
		defer s.Hold(web)()
		time.Sleep(32 * time.Second)
		get(t, s, web)
		calls := len(ca.Calls())
		fail.Store(1)
		time.Sleep(12*time.Hour + 2*time.Second) // renewal, one failure, one second, success
		if n := len(ca.Calls()) - calls; n != 2 {
			t.Errorf("%d calls", n)
		}
	})
}

func TestWaitIsBoundedByContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ca := certtest.New(t)
		ca.Intercept(func(ctx context.Context, _ spiffe.ID) error { <-ctx.Done(); return ctx.Err() })
		s := run(t, ca, nil)
		defer s.Hold(web)()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if _, err := s.Get(ctx, web); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		// The store's own limit ends the call, and the next caller is told.
		time.Sleep(9500 * time.Millisecond)
		if _, err := s.Get(t.Context(), web); !errors.Is(err, cert.ErrUnavailable) {
			t.Error(err)
		}
	})
}

// TestPriorities: one call at a time; a connection overtakes the prefetched, who overtake renewals.
func TestPriorities(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ca := certtest.New(t)
		s := run(t, ca, func(c *cert.Config) { c.Concurrency = 1 })
		for i := range 3 { // due for renewal at half life
			defer s.Hold(certtest.ID(fmt.Sprintf("old/%d", i)))()
		}
		time.Sleep(time.Second)
		ca.Intercept(func(context.Context, spiffe.ID) error { time.Sleep(time.Minute / 8); return nil })
		time.Sleep(12*time.Hour - time.Millisecond*500) // one renewal is under way, two are due
		synctest.Wait()
		seen := len(ca.Calls())
		for i := range 3 {
			defer s.Hold(certtest.ID(fmt.Sprintf("warm/%d", i)))()
		}
		var wg sync.WaitGroup
		wg.Go(func() { get(t, s, certtest.ID("now/now")) })
		wg.Go(func() { get(t, s, certtest.ID("warm/1")) }) // prefetched, and now needed
		wg.Wait()
		time.Sleep(2 * time.Minute)
		var order []string
		for _, id := range ca.Calls()[seen:] {
			order = append(order, id.Namespace)
		}
		// The two that connections wait for were due at nearly the same time: their order is not stated.
		slices.Sort(order[:2])
		if got := strings.Join(order, " "); got != "now warm warm warm old old" {
			t.Errorf("order: %s", got)
		}
	})
}

func TestConcurrencyIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ca := certtest.New(t)
		var now, most atomic.Int32
		ca.Intercept(func(context.Context, spiffe.ID) error {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer now.Add(-1)
			time.Sleep(time.Second)
			return nil
		})
		s := run(t, ca, nil)
		for i := range 50 {
			defer s.Hold(certtest.ID(fmt.Sprintf("ns/%d", i)))()
		}
		time.Sleep(time.Minute)
		if n := len(ca.Calls()); n != 50 || most.Load() != 8 {
			t.Errorf("%d calls, %d at a time", n, most.Load())
		}
	})
}

func TestForget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ca := certtest.New(t)
		s := run(t, ca, nil)
		one, two := s.Hold(web), s.Hold(web)
		get(t, s, web)
		one()
		one() // once is enough
		if _, ok := s.Current(web); !ok {
			t.Error("forgotten while held")
		}
		two()
		if _, ok := s.Current(web); ok || len(s.Status()) != 0 {
			t.Error("kept after the last release")
		}
		time.Sleep(48 * time.Hour)
		if n := len(ca.Calls()); n != 1 {
			t.Errorf("%d calls for a forgotten identity", n)
		}
	})
}

func TestForgetWhilePending(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ca := certtest.New(t)
		ca.Intercept(func(ctx context.Context, _ spiffe.ID) error { <-ctx.Done(); return ctx.Err() })
		s := run(t, ca, nil)
		release := s.Hold(web)
		result := make(chan error, 1)
		go func() { _, err := s.Get(t.Context(), web); result <- err }()
		synctest.Wait()
		release()
		if err := <-result; !errors.Is(err, cert.ErrForgotten) {
			t.Error(err)
		}
		// It may come back at once, as when a pod is replaced.
		ca.Intercept(nil)
		defer s.Hold(web)()
		get(t, s, web)
	})
}

// TestNotHeld: an identity that a connection asked for but no pod holds is served and not renewed.
func TestNotHeld(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ca := certtest.New(t)
		s := run(t, ca, nil)
		get(t, s, web)
		time.Sleep(48 * time.Hour)
		if n := len(ca.Calls()); n != 1 || len(s.Status()) != 0 {
			t.Errorf("%d calls, %d entries", n, len(s.Status()))
		}
	})
}

func TestStop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ca := certtest.New(t)
		ca.Intercept(func(ctx context.Context, _ spiffe.ID) error { <-ctx.Done(); return ctx.Err() })
		s, err := cert.New(cert.Config{Signer: ca, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended, result := make(chan struct{}), make(chan error, 1)
		go func() { s.Run(ctx); close(ended) }()
		go func() { _, err := s.Get(t.Context(), web); result <- err }()
		synctest.Wait()
		cancel()
		<-ended
		if err := <-result; !errors.Is(err, cert.ErrStopped) {
			t.Error(err)
		}
		if _, err := s.Get(t.Context(), cart); !errors.Is(err, cert.ErrStopped) {
			t.Error(err)
		}
	})
}

func TestLimitOfIdentities(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := run(t, certtest.New(t), func(c *cert.Config) { c.MaxIdentities = 2 })
		defer s.Hold(web)()
		defer s.Hold(cart)()
		if _, err := s.Get(t.Context(), certtest.ID("one/more")); !errors.Is(err, cert.ErrTooMany) {
			t.Error(err)
		}
		s.Hold(certtest.ID("and/more"))()
		get(t, s, web)
	})
}

func TestInvalidIdentity(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := run(t, certtest.New(t), nil)
		for _, id := range []spiffe.ID{{}, {TrustDomain: "td", Namespace: "a/b", ServiceAccount: "c"}} {
			if _, err := s.Get(t.Context(), id); err == nil {
				t.Errorf("%+v has a certificate", id)
			}
		}
	})
}

func TestMetricNames(t *testing.T) {
	bubble(t, func(t *testing.T) {
		reg := prometheus.NewPedanticRegistry()
		s := run(t, certtest.New(t), func(c *cert.Config) { c.Registerer = reg })
		defer s.Hold(web)()
		get(t, s, web)
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		problems, err := promlint.NewWithMetricFamilies(families).Lint()
		if err != nil || len(problems) > 0 {
			t.Error(err, problems)
		}
		for _, f := range families {
			if f.GetName() == "ambit_ztunnel_certificate_earliest_expiry_timestamp_seconds" {
				if v := f.Metric[0].Gauge.GetValue(); v != float64(time.Now().Add(24*time.Hour).Unix()) {
					t.Errorf("earliest expiry %v", v)
				}
			}
		}
	})
}
