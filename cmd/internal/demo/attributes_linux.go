package demo

import "syscall"

// childAttributes makes the kernel end workers with the demo, even those that
// are stopped, and keeps the terminal's interrupt from them: the demo decides.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
