package webhook

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func newHandler(t *testing.T) *handler {
	t.Helper()
	h := &handler{cfg: Config{Log: slog.New(slog.DiscardHandler)}, metrics: newMetrics(prometheus.NewRegistry()), slots: make(chan struct{}, maxReviews)}
	h.bodies.within = bodyTime
	h.bodies.left.Store(maxBodies)
	return h
}

func goodReview(t *testing.T) []byte {
	t.Helper()
	text, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request:  request(admissionv1.Create, "security.istio.io", "AuthorizationPolicy", policy(`{}`), ""),
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestSlowBodies: more bodies than there may be reviews are on their way and do not come; a review is answered all the same.
func TestSlowBodies(t *testing.T) {
	h := newHandler(t)
	var begun sync.WaitGroup
	begun.Add(2 * maxReviews)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Slow") != "" {
			reached := sync.OnceFunc(begun.Done)
			defer reached() // if it is refused at once
			r.Body = struct {
				io.Reader
				io.Closer
			}{io.MultiReader(io.LimitReader(r.Body, 1), readerFunc(func([]byte) (int, error) { reached(); return 0, io.EOF }), r.Body), r.Body}
		}
		h.ServeHTTP(w, r)
	}))
	defer srv.Close()
	var slow sync.WaitGroup
	var ends []*io.PipeWriter
	for range 2 * maxReviews {
		body, end := io.Pipe()
		ends = append(ends, end)
		slow.Go(func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, body)
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Slow", "yes")
			if res, err := http.DefaultClient.Do(req); err == nil {
				_ = res.Body.Close()
			}
		})
		slow.Go(func() { _, _ = end.Write([]byte("{")) })
	}
	begun.Wait()
	res, err := http.Post(srv.URL, "application/json", bytes.NewReader(goodReview(t)))
	if err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("%v %v", res, err)
	} else {
		_ = res.Body.Close()
	}
	for _, end := range ends {
		_ = end.CloseWithError(io.ErrUnexpectedEOF)
	}
	slow.Wait()
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestBodyThatDoesNotEnd: it is given up, and its sender told.
func TestBodyThatDoesNotEnd(t *testing.T) {
	h := newHandler(t)
	h.bodies.within = 1
	srv := httptest.NewServer(h)
	defer srv.Close()
	body, end := io.Pipe()
	defer end.Close()
	res, err := http.Post(srv.URL, "application/json", body)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusRequestTimeout {
		t.Errorf("status %d", res.StatusCode)
	}
}

// TestBodiesShareABudget: what does not fit is refused before it is held, and all is given back, whatever became of a body.
func TestBodiesShareABudget(t *testing.T) {
	h := newHandler(t)
	const room = 128 << 10
	h.bodies.left.Store(room)
	for _, c := range []struct {
		name   string
		body   io.Reader
		status int
	}{
		{"too much", bytes.NewReader(make([]byte, 256<<10)), http.StatusServiceUnavailable},
		{"broken off", iotest.ErrReader(io.ErrUnexpectedEOF), http.StatusBadRequest},
		{"a byte at a time", iotest.OneByteReader(bytes.NewReader(goodReview(t))), http.StatusOK},
		{"good", bytes.NewReader(goodReview(t)), http.StatusOK},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, Path, c.body))
		if w.Code != c.status || h.bodies.left.Load() != room {
			t.Errorf("%s: status %d, want %d; %d bytes left of %d", c.name, w.Code, c.status, h.bodies.left.Load(), room)
		}
	}
}
