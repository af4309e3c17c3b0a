//go:build unix

package main

import (
	"os"
	"syscall"
)

// levelSignals switch the level of the log.
var levelSignals = []os.Signal{syscall.SIGUSR1}
