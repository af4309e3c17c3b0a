package pgserver

import "syscall"

// childAttributes end the server when the test binary dies, and make it the leader of
// a process group.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
