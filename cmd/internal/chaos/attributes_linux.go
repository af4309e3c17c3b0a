package chaos

import "syscall"

// childAttributes makes the kernel end the children with this process, even those
// that are stopped, and keeps the terminal's interrupt from them: this process
// decides.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// diskAttributes spare the process of a disk: it has to unmount, and ends when its
// standard input does.
func diskAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
