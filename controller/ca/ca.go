// Package ca answers who may hold which certificate, and signs it.
//
// decide and checkCSR are the pure decisions; Authority is the signer on disk; Server is the gRPC shell,
// istio.v1.auth.IstioCertificateService. Tokens are checked by controller/auth, and which pod runs where is asked through
// Residents. Everything exported is safe for concurrent use. Private keys of workloads never come here.
package ca

import (
	"context"
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
	Auth        auth.Authenticator
	Signer      Signer
	Residents   Residents
	TrustDomain string
	// NodeAccounts ("namespace/service account") may ask for the identities of pods on their node.
	NodeAccounts []string
	DefaultTTL   time.Duration
	MaxTTL       time.Duration
	Log          *slog.Logger
	Metrics      *Metrics
}

// Server issues certificates.
type Server struct{ cfg Config }

// New makes a server.
func New(cfg Config) *Server { return &Server{cfg: cfg} }

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
	caller, err := auth.FromContext(st.Context(), s.cfg.Auth)
	if err != nil {
		return s.refused(caller, "", codes.Unauthenticated, "request authenticate failure: ", refuse(ReasonUnauthenticated, "%v", err))
	}
	req := &ca.IstioCertificateRequest{}
	if err := st.RecvMsg(req); err != nil {
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
	key, no := checkCSR(req.GetCsr(), id)
	if no != nil {
		return nil, s.refused(caller, id.String(), codes.InvalidArgument, "CSR signing error: ", no)
	}
	ttl, no := lifetime(req.GetValidityDuration(), s.cfg.DefaultTTL, s.cfg.MaxTTL)
	if no != nil {
		return nil, s.refused(caller, id.String(), codes.InvalidArgument, "CSR signing error: ", no)
	}
	chain, err := s.cfg.Signer.Sign(ctx, Request{Key: key, ID: id, Lifetime: ttl})
	if err != nil {
		return nil, s.refused(caller, id.String(), codes.Internal, "CSR signing error: ", refuse(ReasonSigning, "%v", err))
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

// refused logs and counts a refusal, and tells the caller why.
func (s *Server) refused(caller auth.Caller, identity string, code codes.Code, prefix string, why *refusal) error {
	s.cfg.Metrics.refused(why.reason)
	if len(identity) > 256 {
		identity = identity[:256]
	}
	s.cfg.Log.Warn("certificate refused", "caller", caller, "identity", identity, "reason", string(why.reason), "detail", why.text)
	return status.Error(code, prefix+why.text)
}
