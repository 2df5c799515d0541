package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Command is one line of what a fleet is told to do: one of its fields.
type Command struct {
	Connect *Connect `json:",omitempty"`
	Arrived []string `json:",omitempty"` // revisions
	Bytes   bool     `json:",omitempty"`
	Close   bool     `json:",omitempty"`
}

// Connect asks for more clients.
type Connect struct {
	Clients int
	Known   bool
}

// Answer is the line that answers a Command.
type Answer struct {
	Connected Connected
	Arrived   []int64
	Bytes     int64
	Error     string
}

// commandTime bounds every command: 500 clients that sync 50,000 pods are the longest.
const commandTime = 3 * time.Minute

// Serve does what it is told, line by line, until the input ends.
func (f *Fleet) Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	dec, enc := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var cmd Command
		if err := dec.Decode(&cmd); errors.Is(err, io.EOF) {
			return f.Close()
		} else if err != nil {
			return fmt.Errorf("command: %w", err)
		}
		answer, err := f.do(ctx, cmd)
		if err != nil {
			answer.Error = err.Error()
		}
		if err := enc.Encode(answer); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

func (f *Fleet) do(ctx context.Context, cmd Command) (a Answer, err error) {
	limited, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	switch {
	case cmd.Connect != nil:
		a.Connected, err = f.Connect(limited, cmd.Connect.Clients, cmd.Connect.Known)
	case cmd.Arrived != nil:
		a.Arrived, err = f.Arrived(limited, cmd.Arrived)
	case cmd.Bytes:
		a.Bytes = f.Bytes()
	case cmd.Close:
		err = f.Close()
	}
	return a, err
}
