// Package ca answers who may hold which certificate, and signs it.
//
// decide and checkCSR are the pure decisions, Server is the gRPC shell, istio.v1.auth.IstioCertificateService. Signer makes the
// certificates: SelfSigned with a root kept in a Store and replaced in time (Rotation decides, purely), PluggedIn with files of
// someone else's, or an external one. Callers are authenticated by controller/auth, and which pod runs where is asked through
// Residents. Everything exported is safe for concurrent use. Private keys of workloads never come here.
package ca

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ambit-mesh/ambit/controller/api/ca"
	"github.com/ambit-mesh/ambit/controller/auth"
)

// Config is what a Server needs.
type Config struct {
	Auth        auth.Calls
	Signer      Signer
	Residents   Residents
	TrustDomain string
	// NodeAccounts ("namespace/service account") may ask for the identities of pods on their node.
	NodeAccounts []string
	DefaultTTL   time.Duration
	MaxTTL       time.Duration
	Log          *slog.Logger
	Metrics      *Metrics
	Now          func() time.Time
}

// Server issues certificates.
type Server struct {
	cfg     Config
	log     refusalLog
	callers callers
}

// signTimeout bounds one signature; external signers take their time.
const signTimeout = 10 * time.Second

// New makes a server.
func New(cfg Config) *Server {
	return &Server{cfg: cfg, log: refusalLog{log: cfg.Log, now: cfg.Now}}
}

// Register serves CreateCertificate at r. It is registered as a stream of one message each way, which is the same on the wire,
// because gRPC reads the whole message of a plain call before it asks us: so a caller is known before its message is read.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	desc := ca.IstioCertificateService_ServiceDesc
	r.RegisterService(&grpc.ServiceDesc{
		ServiceName: desc.ServiceName,
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{
			StreamName: desc.Methods[0].MethodName,
			Handler:    func(_ any, st grpc.ServerStream) error { return s.serve(st) },
		}},
		Metadata: desc.Metadata,
	}, s)
}

func (s *Server) serve(st grpc.ServerStream) error {
	s.cfg.Metrics.requests.Inc()
	caller, err := s.cfg.Auth.Authenticate(st.Context())
	if err != nil {
		reason := ReasonUnauthenticated
		if errors.Is(err, auth.ErrUnavailable) {
			reason = ReasonUnchecked
		}
		return s.refused(caller, "", auth.Code(err), "request authenticate failure: ", refuse(reason, "%v", err))
	}
	leave, ok := s.callers.enter(caller)
	if !ok {
		return s.refused(caller, "", codes.ResourceExhausted, "", refuse(ReasonTooMany, "more than %d calls of one caller at once", callsOfCaller))
	}
	defer leave()
	req, err := receive(st)
	if err != nil {
		return err
	}
	res, err := s.create(st.Context(), caller, req)
	if err != nil {
		return err
	}
	return st.SendMsg(res)
}

// create signs the key of a certificate request, if the caller may have the identity.
func (s *Server) create(ctx context.Context, caller auth.Caller, req *ca.IstioCertificateRequest) (*ca.IstioCertificateResponse, error) {
	asked := req.GetMetadata().GetFields()[ca.ImpersonatedIdentity]
	id, no := decide(caller, asked.GetStringValue(), s.cfg.TrustDomain, s.cfg.NodeAccounts, s.cfg.Residents)
	if asked != nil && asked.GetStringValue() == "" { // present, but not a text
		no = refuse(ReasonMalformed, "%s is not a text", ca.ImpersonatedIdentity)
	}
	if no != nil {
		return nil, s.refused(caller, asked.GetStringValue(), codes.Unauthenticated, "request impersonation authentication failure: ", no)
	}
	csr, no := checkCSR(req.GetCsr(), id)
	if no != nil {
		return nil, s.refused(caller, id.String(), codes.InvalidArgument, "CSR signing error: ", no)
	}
	ttl, no := lifetime(req.GetValidityDuration(), s.cfg.DefaultTTL, s.cfg.MaxTTL)
	if no != nil {
		return nil, s.refused(caller, id.String(), codes.InvalidArgument, "CSR signing error: ", no)
	}
	chain, err := s.sign(ctx, Request{CSR: csr.Raw, Key: csr.PublicKey, ID: id, Lifetime: ttl})
	if err != nil {
		code := codes.Internal
		if errors.Is(err, ErrRetry) {
			code = codes.Unavailable
		}
		return nil, s.refused(caller, id.String(), code, "CSR signing error: ", refuse(ReasonSigning, "%v", err))
	}
	s.cfg.Metrics.issued.Inc()
	s.cfg.Log.Debug("certificate issued", "caller", caller, "identity", id.String(), "ttl", ttl)
	out := &ca.IstioCertificateResponse{CertChain: []string{string(chain.Leaf)}}
	for _, c := range chain.Intermediates {
		out.CertChain = append(out.CertChain, string(c))
	}
	out.CertChain = append(out.CertChain, string(chain.Roots))
	return out, nil
}

// sign asks the signer, and checks what it gives: a signer of another's may be wrong.
func (s *Server) sign(ctx context.Context, r Request) (Chain, error) {
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	chain, err := s.cfg.Signer.Sign(ctx, r)
	if errors.Is(err, context.DeadlineExceeded) {
		return Chain{}, fmt.Errorf("%w: %w", ErrRetry, err)
	}
	if err != nil {
		return Chain{}, err
	}
	if err := chain.Check(r, s.cfg.Now()); err != nil {
		return Chain{}, fmt.Errorf("signer's answer: %w", err)
	}
	return chain, nil
}

// refused logs and counts a refusal, and tells the caller why.
func (s *Server) refused(caller auth.Caller, identity string, code codes.Code, prefix string, why *refusal) error {
	s.cfg.Metrics.refused(why.reason)
	if len(identity) > 256 {
		identity = identity[:256]
	}
	s.log.write(caller, identity, why)
	return status.Error(code, prefix+why.text)
}
