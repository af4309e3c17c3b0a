// Command oncelog is the whole product in one program: the servers, and
// everything that people and scripts ask of a cluster.
//
// main does signals and the exit code. Each command is a function newXxxCommand
// in a file of its own, hung up in root.go; it reads its settings through
// cmd/internal/config and prints through cmd/internal/output.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/node"
)

func main() { run() }

// run is the program, of which a test may have nodes run otherwise.
func run(nodes ...node.Option) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the program at once.
	context.AfterFunc(ctx, stop)
	a := &app{
		in: os.Stdin, out: os.Stdout, err: os.Stderr,
		environ:     os.Environ(),
		interactive: isTerminal(os.Stderr),
		typed:       isTerminal(os.Stdin),
		now:         time.Now,
		nodes:       nodes,
	}
	os.Exit(a.run(ctx, os.Args[1:]))
}

// isTerminal reports whether f is a terminal, as far as the file's kind tells:
// good enough to decide whether to draw progress.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}
