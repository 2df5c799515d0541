// Package shift answers: how does a goroutine that once needed a large stack wait for long without keeping it? It does not: its
// work goes on in another one. The runtime shrinks a stack to 4 KiB at best, and starts one with 2.
//
// inpod and hbone run connections by it, inbound and outbound make the jobs. It does not decide when a shift ends: the jobs
// do, when they are told to rest.
//
// A job's shifts follow one another, so that they need no locks among themselves.
package shift

// Job is work that may have to wait for long.
type Job interface {
	// Shift works until the job is over, or until it has been told to rest: then it returns true, and is called again on a new
	// goroutine. Frames below that wait for long should not exceed some 1,000 bytes together.
	Shift() (again bool)
	// End is called after the last shift.
	End()
}

// Run does a job, if it is not nil, and then calls after. It returns when the first shift has ended.
func Run(j Job, after func()) {
	if j != nil {
		if j.Shift() {
			go Run(j, after) // ends with the job
			return
		}
		j.End()
	}
	after()
}
