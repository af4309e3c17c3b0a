package cluster

import "syscall"

// childAttributes makes the kernel end the children with their parent, so that
// a killed demo or test leaves nothing running, and keeps the terminal's
// interrupt from reaching them before the parent has decided what to do.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
