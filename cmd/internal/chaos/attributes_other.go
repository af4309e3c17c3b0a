//go:build !linux

package chaos

import "syscall"

// childAttributes: only Linux ends children with their parent.
func childAttributes() *syscall.SysProcAttr { return nil }

func diskAttributes() *syscall.SysProcAttr { return nil }
