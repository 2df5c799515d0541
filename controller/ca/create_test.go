package ca

import (
	"bytes"
	"context"
	"crypto/elliptic"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/ambit-mesh/ambit/controller/api/ca"
	"github.com/ambit-mesh/ambit/controller/auth"
)

// signerFunc is an external signer.
type signerFunc func(ctx context.Context, r Request) (Chain, error)

func (f signerFunc) Sign(ctx context.Context, r Request) (Chain, error) { return f(ctx, r) }
func (f signerFunc) Roots() []byte                                      { return nil }
func (f signerFunc) Changed() <-chan struct{}                           { return nil }

func server(s Signer, now func() time.Time) (*Server, *bytes.Buffer) {
	log := &bytes.Buffer{}
	return New(Config{
		Signer: s, Residents: world{}, TrustDomain: "cluster.local", NodeAccounts: []string{"ambit-system/ambit-ztunnel"},
		DefaultTTL: time.Hour, MaxTTL: 24 * time.Hour, Log: slog.New(slog.NewTextHandler(log, nil)), Metrics: NewMetrics(prometheus.NewRegistry()), Now: now,
	}), log
}

var webCaller = auth.Caller{Namespace: "shop", ServiceAccount: "web"}

// TestSignerFailures: what an external signer does wrong reaches nobody, and callers learn whether to try again.
func TestSignerFailures(t *testing.T) {
	f := pluggedFiles(t)
	good, err := NewAuthority(f[KeyCert], f[KeyKey], f[KeyChain], f[KeyRoot], clock)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := workloadRequest(t, time.Hour)
	for _, tc := range []struct {
		name string
		s    signerFunc
		code codes.Code
		says string
	}{
		{"good", good.Sign, codes.OK, ""},
		{"away", func(context.Context, Request) (Chain, error) { return Chain{}, fmt.Errorf("vault: %w", ErrRetry) }, codes.Unavailable, "vault"},
		{"refuses", func(context.Context, Request) (Chain, error) { return Chain{}, errors.New("role forbids it") }, codes.Internal, "role forbids it"},
		{"another key", func(ctx context.Context, r Request) (Chain, error) { r.Key = other.Key; return good.Sign(ctx, r) }, codes.Internal, "another key"},
		{"another identity", func(ctx context.Context, r Request) (Chain, error) {
			r.ID.ServiceAccount = "admin"
			return good.Sign(ctx, r)
		}, codes.Internal, "leaf names"},
		{"too long", func(ctx context.Context, r Request) (Chain, error) { r.Lifetime *= 2; return good.Sign(ctx, r) }, codes.Internal, "valid until"},
		{"nothing", func(context.Context, Request) (Chain, error) { return Chain{}, nil }, codes.Internal, "PEM"},
	} {
		s, log := server(tc.s, clock)
		res, err := s.create(t.Context(), webCaller, &ca.IstioCertificateRequest{Csr: request(t, ec(t, elliptic.P256()), nil)})
		if status.Code(err) != tc.code || tc.code != codes.OK && (res != nil || !strings.Contains(err.Error(), tc.says) || !strings.Contains(log.String(), "reason=signing")) {
			t.Errorf("%s: %v; want %s with %q", tc.name, err, tc.code, tc.says)
		}
		if tc.code == codes.OK && (len(res.CertChain) != 3 || res.CertChain[2] != string(f[KeyRoot])) {
			t.Errorf("%s: %d elements", tc.name, len(res.CertChain))
		}
		if n := testutil.ToFloat64(s.cfg.Metrics.signFailed.WithLabelValues("signing")); (n == 1) != (tc.code != codes.OK) {
			t.Errorf("%s: counted %v", tc.name, n)
		}
	}
}

// TestSlowSigner: a signer that does not answer holds a caller for a while only.
func TestSlowSigner(t *testing.T) {
	csr := request(t, ec(t, elliptic.P256()), nil)
	synctest.Test(t, func(t *testing.T) {
		s, _ := server(signerFunc(func(ctx context.Context, _ Request) (Chain, error) {
			<-ctx.Done()
			return Chain{}, ctx.Err()
		}), time.Now)
		begin := time.Now()
		_, err := s.create(t.Context(), webCaller, &ca.IstioCertificateRequest{Csr: csr})
		if status.Code(err) != codes.Unavailable || time.Since(begin) != signTimeout {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
	})
}

// TestCreateRefused: who asks for too much is told why, logged and counted by reason.
func TestCreateRefused(t *testing.T) {
	s, log := server(signerFunc(func(context.Context, Request) (Chain, error) { panic("signed") }), clock)
	good := request(t, ec(t, elliptic.P256()), nil)
	for _, tc := range []struct {
		name   string
		asks   any // ImpersonatedIdentity; nil for none
		csr    string
		life   int64
		code   codes.Code
		reason Reason
	}{
		{"an application that impersonates", "spiffe://cluster.local/ns/shop/sa/cart", good, 60, codes.Unauthenticated, ReasonNotTrusted},
		{"impersonates itself", web.String(), good, 60, codes.Unauthenticated, ReasonNotTrusted},
		{"a number", 7.0, good, 60, codes.Unauthenticated, ReasonMalformed},
		{"an empty text", "", good, 60, codes.Unauthenticated, ReasonMalformed},
		{"path tricks", "spiffe://cluster.local/ns/shop/sa/../../../admin", good, 60, codes.Unauthenticated, ReasonMalformed},
		{"another's request", nil, strings.Replace(good, "A", "B", 1), 60, codes.InvalidArgument, ReasonBadCSR},
		{"huge", nil, strings.Repeat("x", maxCSR+1), 60, codes.InvalidArgument, ReasonBadCSR},
		{"for ever", nil, good, 1 << 62, codes.InvalidArgument, ReasonBadTTL},
	} {
		req := &ca.IstioCertificateRequest{Csr: tc.csr, ValidityDuration: tc.life}
		if tc.asks != nil {
			var err error
			if req.Metadata, err = structpb.NewStruct(map[string]any{ca.ImpersonatedIdentity: tc.asks}); err != nil {
				t.Fatal(err)
			}
		}
		before := testutil.ToFloat64(s.cfg.Metrics.refusals.WithLabelValues(string(tc.reason)))
		log.Reset()
		_, err := s.create(t.Context(), webCaller, req)
		if status.Code(err) != tc.code || testutil.ToFloat64(s.cfg.Metrics.refusals.WithLabelValues(string(tc.reason))) != before+1 ||
			!strings.Contains(log.String(), "reason="+string(tc.reason)) {
			t.Errorf("%s: %v; log %s", tc.name, err, log)
		}
	}
}

// TestRefusalLog: a flood of one reason is thinned out and does not hide another.
func TestRefusalLog(t *testing.T) {
	now, text := epoch, &bytes.Buffer{}
	l := refusalLog{log: slog.New(slog.NewTextHandler(text, nil)), now: func() time.Time { return now }}
	for range refusalBurst + 100 {
		l.write(webCaller, "", refuse(ReasonBadCSR, "x"))
	}
	l.write(webCaller, "", refuse(ReasonNotTrusted, "x"))
	if n := strings.Count(text.String(), "bad_csr"); n != refusalBurst {
		t.Errorf("%d lines, want %d", n, refusalBurst)
	}
	if !strings.Contains(text.String(), "not_a_node_account") {
		t.Error("another reason is hidden")
	}
	now = now.Add(time.Minute)
	text.Reset()
	l.write(webCaller, "", refuse(ReasonBadCSR, "x"))
	if !strings.Contains(text.String(), "left_out=100") {
		t.Error(text)
	}
}
