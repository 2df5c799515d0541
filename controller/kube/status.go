package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"

	"github.com/ambit-mesh/ambit/controller/objects"
)

const (
	// fieldManager names us in managedFields.
	fieldManager = "ambit-controller"
	// statusWorkers is how many objects are written at once; the client's rate bounds them together.
	statusWorkers = 4
	// repairAfter is how long after somebody else's change of our conditions they are written again: two controllers that
	// disagree cost one write a second and object, not all there are.
	repairAfter = time.Second
	// retryFirst and retryMost bound the wait after a write that failed.
	retryFirst, retryMost = 100 * time.Millisecond, 2 * time.Minute
)

// Status writes the mesh's statuses onto objects, as a source.StatusWriter. Every replica keeps what is wanted; only
// the one that runs Lead writes it, so that a new leader knows all and rewrites just what differs from what the
// objects say.
type Status struct {
	cluster *Cluster
	notes   *ledger
	kinds   map[objects.Kind]kind
	log     *slog.Logger
	metrics *Metrics
	now     func() time.Time

	settled func()        // closes complete, once
	whole   chan struct{} // closed once the first state's statuses are all in wanted

	mu     sync.Mutex
	wanted map[objects.Key]objects.Status
	queue  workqueue.TypedRateLimitingInterface[objects.Key] // nil unless leading
	said   map[objects.Key]string                            // of objects that cannot hold conditions: what their owner was told
}

// NewStatus makes a writer that compares with what the source has seen.
func NewStatus(s *Source) *Status {
	w := &Status{
		cluster: s.cluster, notes: s.notes, kinds: map[objects.Kind]kind{}, log: s.log, metrics: s.metrics, now: time.Now,
		whole: make(chan struct{}), wanted: map[objects.Key]objects.Status{}, said: map[objects.Key]string{},
	}
	w.settled = sync.OnceFunc(func() { close(w.whole) })
	for _, k := range s.all {
		w.kinds[k.name] = k
	}
	return w
}

// WriteStatus implements source.StatusWriter. It takes note and returns: writing, and trying again, is Lead's.
func (w *Status) WriteStatus(_ context.Context, statuses []objects.Status) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range statuses {
		if s.Empty() {
			delete(w.wanted, s.Key)
		} else {
			w.wanted[s.Key] = s
		}
		if w.queue != nil {
			w.queue.Add(s.Key)
		}
	}
	w.settled()
	return nil
}

// Lead writes until ctx ends. It begins once everything the first state wants is known: before that, what an earlier leader
// wrote would look stale.
func (w *Status) Lead(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-w.whole:
	}
	events := newEvents(quiet(ctx, w.log), w.cluster)
	defer events.end()
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[objects.Key](retryFirst, retryMost))
	w.mu.Lock()
	w.queue = queue
	for key := range w.wanted {
		queue.Add(key)
	}
	w.mu.Unlock()
	w.notes.watch(func(key objects.Key) {
		if !w.notes.get(key).says(w.want(key)) {
			queue.AddAfter(key, repairAfter)
		}
	})
	for _, key := range w.notes.keys() { // left by somebody who wanted it, and stale
		queue.Add(key)
	}
	var wg sync.WaitGroup
	for range statusWorkers {
		wg.Go(func() { w.work(ctx, queue, events) })
	}
	<-ctx.Done()
	w.notes.watch(nil)
	w.mu.Lock()
	w.queue = nil
	w.mu.Unlock()
	queue.ShutDown()
	wg.Wait()
	w.metrics.statusQueue.Set(0)
	return nil
}

func (w *Status) work(ctx context.Context, queue workqueue.TypedRateLimitingInterface[objects.Key], events *events) {
	for {
		key, stop := queue.Get()
		if stop {
			return
		}
		if ctx.Err() == nil {
			w.metrics.statusQueue.Set(float64(queue.Len()))
			w.settle(ctx, key, queue, events)
		}
		queue.Done(key)
	}
}

// settle brings one object to what is wanted, or puts it back for later.
func (w *Status) settle(ctx context.Context, key objects.Key, queue workqueue.TypedRateLimitingInterface[objects.Key], events *events) {
	result, err := w.write(ctx, key, events)
	if result != "" {
		w.metrics.statusWrites.WithLabelValues(string(key.Kind), result).Inc()
	}
	switch {
	case err == nil:
		queue.Forget(key)
	case ctx.Err() != nil:
	default:
		if !apierrors.IsConflict(err) {
			w.log.Warn("conditions cannot be written; trying again", "object", key.String(), "err", err)
		}
		queue.AddRateLimited(key)
	}
}

func (w *Status) want(key objects.Key) objects.Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.wanted[key]
	s.Key = key
	return s
}

// write makes at most one write. result is for the metric; empty if nothing was done.
func (w *Status) write(ctx context.Context, key objects.Key, events *events) (result string, err error) {
	want := w.want(key)
	k, known := w.kinds[key.Kind]
	switch {
	case !known:
		return "", nil
	case k.conditions && w.notes.get(key).says(want):
		return "", nil
	case !k.conditions:
		return "", w.tell(ctx, k, want, events)
	}
	objs := w.cluster.objects.Resource(k.resource).Namespace(key.Namespace)
	live, err := objs.Get(ctx, key.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "error", fmt.Errorf("read %s: %w", key, err)
	}
	status, _ := live.Object["status"].(map[string]any)
	next := merge(status, want, w.now())
	if holds(status, next) {
		return "", nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": live.GetResourceVersion()}, "status": next})
	if err != nil {
		return "error", fmt.Errorf("conditions of %s: %w", key, err)
	}
	_, err = objs.Patch(ctx, key.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager}, "status")
	switch {
	case apierrors.IsNotFound(err):
		return "", nil
	case apierrors.IsConflict(err):
		return "conflict", err
	case err != nil:
		return "error", fmt.Errorf("write conditions of %s: %w", key, err)
	}
	w.log.Debug("conditions written", "object", key.String())
	events.refusals(live, status, want)
	return "written", nil
}

// tell gives the owner of an object that cannot hold conditions an event instead, once for each text.
func (w *Status) tell(ctx context.Context, k kind, want objects.Status, events *events) error {
	text, err := json.Marshal(want.Conditions)
	if err != nil {
		return err
	}
	w.mu.Lock()
	same := w.said[want.Key] == string(text)
	w.mu.Unlock()
	if same {
		return nil
	}
	live := &unstructured.Unstructured{}
	if !want.Empty() {
		live, err = w.cluster.objects.Resource(k.resource).Namespace(want.Key.Namespace).Get(ctx, want.Key.Name, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("read %s: %w", want.Key, err)
		}
		if err == nil {
			events.refusals(live, nil, want)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if want.Empty() {
		delete(w.said, want.Key)
	} else {
		w.said[want.Key] = string(text)
	}
	return nil
}

// holds reports that a status has all the fields of next already. Both are decoded JSON, but for the numbers of next.
func holds(status, next map[string]any) bool {
	text, err := json.Marshal(next)
	if err != nil {
		return false
	}
	have := map[string]any{}
	for field := range next {
		v := status[field]
		if v == nil {
			v = []any{} // an absent list is an empty one
		}
		have[field] = v
	}
	old, err := json.Marshal(have)
	if err != nil {
		return false
	}
	var a, b any
	return json.Unmarshal(text, &a) == nil && json.Unmarshal(old, &b) == nil && reflect.DeepEqual(a, b)
}
