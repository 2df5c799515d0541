package ztunnel

import (
	"os"
	"testing"
)

func TestStockShare(t *testing.T) {
	for _, tc := range []struct {
		name                        string
		limit, open, stocked, wants int
	}{
		{"a quarter of all", 20_000, 500, 400, 5000},
		{"half of what connections leave", 20_000, 18_300, 300, (20_000 - 18_000 - reservedFiles) / 2},
		{"nothing", 1000, 1000, 0, 0},
		{"a large machine", 1 << 20, 100_000, 5000, 1 << 18},
	} {
		if got := stockShare(tc.limit, tc.open, tc.stocked); got != tc.wants {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.wants)
		}
	}
}

func TestOpenFiles(t *testing.T) {
	before := openFiles()
	for range 10 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	if got := openFiles(); got < before+10 || before == 0 {
		t.Errorf("%d files open before, %d with ten more", before, got)
	}
	if fileLimit() < 256 {
		t.Errorf("limit of %d files", fileLimit())
	}
}
