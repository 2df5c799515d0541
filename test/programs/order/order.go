// Package order is how programs are started in a container from outside of it: the words between `labprog attend`, the
// container's first process, and who gives it orders on its Unix socket. A connection is one program: the Order, then Signals
// from the one side, and Ended from the other, each a JSON value. All values; no state.
package order

// Order says what to run.
type Order struct {
	Argv []string `json:"argv"`
	Env  []string `json:"env,omitempty"`  // added to the container's
	User string   `json:"user,omitempty"` // name or uid; empty is root
	Dir  string   `json:"dir,omitempty"`
	// Log is a file that the program's output is added to. With it the program stays when the connection goes; without it
	// the output comes with Ended, and the program ends with the connection.
	Log string `json:"log,omitempty"`
}

// Signal is sent to the program and what it has started.
type Signal struct {
	Signal int `json:"signal"`
}

// Ended is the only answer: the program was not started (Error), or has ended.
type Ended struct {
	Error  string `json:"error,omitempty"`
	Code   int    `json:"code"` // exit status; -1 if it was killed
	Stdout string `json:"stdout,omitempty"`
	Stderr string `json:"stderr,omitempty"`
}
