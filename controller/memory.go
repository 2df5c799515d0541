package controller

import (
	"os"
	"runtime/debug"
)

// tuneGC collects twice as often as the runtime would: the heap is objects and resources that stay, a change makes little
// garbage, and every byte of room for more is resident memory. A GOGC of the user's is left alone.
func tuneGC() {
	const percent = 50
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}
