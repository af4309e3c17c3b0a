//go:build !linux

package cluster

import "syscall"

// childAttributes: only Linux ends children with their parent.
func childAttributes() *syscall.SysProcAttr { return nil }
