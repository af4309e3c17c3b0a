//go:build !unix

package main

import "os"

// levelSignals are none: there is no signal to spare here.
var levelSignals []os.Signal
