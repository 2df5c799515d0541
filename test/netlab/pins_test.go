package netlab

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cilium/ebpf/link"
)

// The kernel lets go of links when it comes to it; only what stays is an error, and each is named.
func TestGone(t *testing.T) {
	still := func(since time.Time, after map[link.ID]time.Duration) func(link.ID) error {
		return func(id link.ID) error {
			if time.Since(since) < after[id] {
				return fmt.Errorf("link %d is still attached", id)
			}
			return nil
		}
	}
	ids := []link.ID{7, 8, 9}
	synctest.Test(t, func(t *testing.T) {
		if err := gone(t.Context(), time.Minute, ids, still(time.Now(), map[link.ID]time.Duration{7: time.Second, 9: 50 * time.Second})); err != nil {
			t.Error(err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		err := gone(t.Context(), time.Minute, ids, still(begin, map[link.ID]time.Duration{7: time.Second, 8: time.Hour, 9: time.Hour}))
		if err == nil || strings.Contains(err.Error(), "link 7") || !strings.Contains(err.Error(), "link 8") || !strings.Contains(err.Error(), "link 9") {
			t.Errorf("got %v, want links 8 and 9 named", err)
		}
		if d := time.Since(begin); d != time.Minute {
			t.Errorf("waited for %v", d)
		}
	})
	synctest.Test(t, func(t *testing.T) { // what cannot be asked is not gone
		if err := gone(t.Context(), time.Minute, ids, func(link.ID) error { return errors.New("no permission") }); err == nil {
			t.Error("links that cannot be looked at are taken for gone")
		}
	})
}
