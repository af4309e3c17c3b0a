// Command conformance reads what `go test -json` prints, and holds it to
// CONFORMANCE.md: every test that the page names must have run, and passed. It
// ends in one line with the figures; `make conformance` runs it.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Stdin, os.Stdout, "."); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// run reads the events of a run of tests. root is the top of the repository.
func run(events io.Reader, out io.Writer, root string) error {
	p, err := readPage(root)
	if err != nil {
		return err
	}
	t, err := readTests(root)
	if err != nil {
		return err
	}
	r, err := readRun(bufio.NewReader(events))
	if err != nil {
		return err
	}
	problems := append(p.check(t), r.check(p)...)
	for _, problem := range problems {
		fmt.Fprintln(out, problem)
	}
	fmt.Fprintln(out, r.figures(p))
	if len(problems) > 0 {
		return fmt.Errorf("%d problems", len(problems))
	}
	return nil
}
