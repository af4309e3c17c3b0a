//go:build !linux

package demo

import "syscall"

// childAttributes: elsewhere workers end when their standard input does.
func childAttributes() *syscall.SysProcAttr { return nil }
