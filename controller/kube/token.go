package kube

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/ambit-mesh/ambit/controller/auth"
)

const (
	// reviewsAtOnce bounds what the API server is asked at a time. So many others wait for their turn; above that, nobody is asked.
	reviewsAtOnce, reviewsWaiting = 32, 4096
	// reviewTime bounds a review, waiting included.
	reviewTime = 10 * time.Second
	// acceptedFor is how long an answer is believed, as long as the token's pod is there: a node asks for a certificate for each of
	// its accounts with one token. A refusal is believed for less, since what it missed may appear.
	acceptedFor = 30 * time.Second
	refusedFor  = 2 * time.Second
	// answersKept bounds the cache: above it, answers are not kept.
	answersKept = 10_000
)

// What the API server says of a token bound to a pod, in a review's extra fields.
const (
	extraPod  = "authentication.kubernetes.io/pod-name"
	extraUID  = "authentication.kubernetes.io/pod-uid"
	extraNode = "authentication.kubernetes.io/node-name" // since Kubernetes 1.30
)

// Authenticator asks the API server whose a token is, by TokenReview. It implements auth.Authenticator. Answers are kept
// for a short time, under a hash of the token.
type Authenticator struct {
	cluster  *Cluster
	audience string
	metrics  *Metrics
	now      func() time.Time
	// nodeOf finds the node of a pod that is there by name and uid, "" if none is: for API servers that do not say it.
	nodeOf func(namespace, pod, uid string) string

	flights singleflight.Group
	slots   chan struct{}
	waits   chan struct{}

	mu      sync.Mutex
	answers map[[sha256.Size]byte]answer
	swept   time.Time
}

type answer struct {
	caller auth.Caller
	err    error
	until  time.Time
}

// NewAuthenticator makes one for tokens of an audience.
func NewAuthenticator(s *Source, audience string) *Authenticator {
	return &Authenticator{
		cluster: s.cluster, audience: audience, metrics: s.metrics, now: time.Now, nodeOf: s.nodeOf,
		slots: make(chan struct{}, reviewsAtOnce), waits: make(chan struct{}, reviewsAtOnce+reviewsWaiting), answers: map[[sha256.Size]byte]answer{},
	}
}

// Authenticate implements auth.Authenticator.
func (a *Authenticator) Authenticate(ctx context.Context, token string) (auth.Caller, error) {
	expires, err := a.precheck(token)
	if err != nil {
		a.count("malformed")
		return auth.Caller{}, err
	}
	hash := sha256.Sum256([]byte(token))
	if kept, ok := a.kept(hash); ok {
		a.count("cached")
		return kept.caller, kept.err
	}
	ch := a.flights.DoChan(string(hash[:]), func() (any, error) {
		if kept, ok := a.kept(hash); ok { // by a flight that has just ended
			a.count("cached")
			return kept.caller, kept.err
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reviewTime) // several callers may wait for it
		defer cancel()
		caller, final, err := a.review(ctx, token)
		if final {
			a.keep(hash, caller, err, expires)
		}
		return caller, err
	})
	select {
	case <-ctx.Done():
		return auth.Caller{}, fmt.Errorf("token review: %w: %w", auth.ErrUnavailable, ctx.Err())
	case r := <-ch:
		caller, _ := r.Val.(auth.Caller)
		return caller, r.Err
	}
}

// precheck refuses, without asking anybody, what the API server would refuse for certain, and says why better than it would. It
// believes nothing else that the token says.
func (a *Authenticator) precheck(token string) (expires time.Time, err error) {
	parts := strings.Split(token, ".")
	if len(token) > auth.MaxToken || len(parts) != 3 {
		return time.Time{}, errors.New("token is not a service account's: not a JWT")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var c struct {
		Audience audiences `json:"aud"`
		Expiry   *float64  `json:"exp"`
	}
	if err != nil || json.Unmarshal(payload, &c) != nil {
		return time.Time{}, errors.New("token is not a service account's: its claims cannot be read")
	}
	if !slices.Contains(c.Audience, a.audience) {
		return time.Time{}, fmt.Errorf("token is for audience %.100q, not for %q; the pod's projected token needs audience %[2]q", strings.Join(c.Audience, ","), a.audience)
	}
	if c.Expiry == nil {
		return time.Time{}, errors.New("token never expires; use a projected one")
	}
	expires = time.Unix(int64(min(max(*c.Expiry, 0), 1<<40)), 0)
	if !a.now().Before(expires.Add(time.Minute)) { // in doubt about clocks the API server decides
		return time.Time{}, fmt.Errorf("token has expired at %s", expires.UTC().Format(time.RFC3339))
	}
	return expires, nil
}

// audiences are a text or a list of them (RFC 7519, section 4.1.3).
type audiences []string

// UnmarshalJSON reads both forms.
func (a *audiences) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = audiences{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(a))
}

// review asks the API server. final says that it answered.
func (a *Authenticator) review(ctx context.Context, token string) (caller auth.Caller, final bool, err error) {
	select {
	case a.waits <- struct{}{}:
		defer func() { <-a.waits }()
	default:
		a.count("overload")
		return auth.Caller{}, false, fmt.Errorf("token review: %w: %d wait already", auth.ErrUnavailable, cap(a.waits))
	}
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		a.count("overload")
		return auth.Caller{}, false, fmt.Errorf("token review: %w: too many at once: %w", auth.ErrUnavailable, ctx.Err())
	}
	res, err := a.cluster.reads.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{a.audience}},
	}, metav1.CreateOptions{})
	if err != nil {
		a.count("error")
		return auth.Caller{}, false, fmt.Errorf("token review: %w: %w", auth.ErrUnavailable, err)
	}
	caller, err = callerOf(res.Status, a.audience)
	if err != nil {
		a.count("refused")
		return auth.Caller{}, true, err
	}
	if caller.Node == "" && caller.Pod != "" {
		caller.Node = a.nodeOf(caller.Namespace, caller.Pod, caller.PodUID)
	}
	a.count("accepted")
	return caller, true, nil
}

// callerOf reads a review's answer. Names that could not be those of accounts, pods and nodes are refused, since they end
// up in identities.
func callerOf(s authenticationv1.TokenReviewStatus, audience string) (auth.Caller, error) {
	switch {
	case s.Error != "":
		return auth.Caller{}, fmt.Errorf("token refused by the API server: %.500s", s.Error)
	case !s.Authenticated:
		return auth.Caller{}, errors.New("token refused by the API server")
	case !slices.Contains(s.Audiences, audience):
		return auth.Caller{}, fmt.Errorf("API server did not confirm audience %q; it must know token audiences", audience)
	}
	parts := strings.Split(s.User.Username, ":")
	if len(parts) != 4 || parts[0] != "system" || parts[1] != "serviceaccount" {
		return auth.Caller{}, fmt.Errorf("token is that of %.100q, not of a service account", s.User.Username)
	}
	c := auth.Caller{Namespace: parts[2], ServiceAccount: parts[3]}
	for _, f := range []struct {
		to    *string
		extra string
	}{{&c.Pod, extraPod}, {&c.PodUID, extraUID}, {&c.Node, extraNode}} {
		if v := s.User.Extra[f.extra]; len(v) == 1 {
			*f.to = v[0]
		}
	}
	for _, f := range []struct {
		what, name string
		check      func(string) []string
	}{
		{"namespace", c.Namespace, validation.IsDNS1123Label},
		{"service account", c.ServiceAccount, validation.IsDNS1123Subdomain},
		{"pod", c.Pod, validation.IsDNS1123Subdomain},
		{"node", c.Node, validation.IsDNS1123Subdomain},
	} {
		if f.name == "" && (f.what == "pod" || f.what == "node") {
			continue
		}
		if bad := f.check(f.name); len(bad) > 0 {
			return auth.Caller{}, fmt.Errorf("token's %s %.100q is not a name", f.what, f.name)
		}
	}
	return c, nil
}

// kept is an answer that still holds. That of a pod that is gone does not: the API server says so sooner than the answer ends.
func (a *Authenticator) kept(hash [sha256.Size]byte) (answer, bool) {
	a.mu.Lock()
	kept, ok := a.answers[hash]
	a.mu.Unlock()
	if !ok || !a.now().Before(kept.until) {
		return answer{}, false
	}
	c := kept.caller
	return kept, c.Pod == "" || a.nodeOf(c.Namespace, c.Pod, c.PodUID) != ""
}

// keep remembers an answer, not past the token's own end.
func (a *Authenticator) keep(hash [sha256.Size]byte, c auth.Caller, err error, expires time.Time) {
	now := a.now()
	until := now.Add(acceptedFor)
	if err != nil {
		until = now.Add(refusedFor)
	}
	if expires.Before(until) {
		until = expires
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.swept) > acceptedFor {
		for h, old := range a.answers {
			if !now.Before(old.until) {
				delete(a.answers, h)
			}
		}
		a.swept = now
	}
	if len(a.answers) < answersKept {
		a.answers[hash] = answer{c, err, until}
	}
}

func (a *Authenticator) count(result string) { a.metrics.reviews.WithLabelValues(result).Inc() }
