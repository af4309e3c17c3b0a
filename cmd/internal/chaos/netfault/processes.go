package netfault

import (
	"errors"
	"maps"
	"net"
	"sync"
)

// Processes knows processes by name and finds out which of them has opened a
// connection on loopback. That takes a system that tells who owns a socket, which
// is Linux; elsewhere nobody is found. It is safe for concurrent use.
type Processes struct {
	mu    sync.Mutex
	names map[int]string
}

// NewProcesses returns an empty register.
func NewProcesses() *Processes { return &Processes{names: make(map[int]string)} }

// Enter makes a process known by a name, under which others may have run before.
// Only processes of the same user can be found.
func (p *Processes) Enter(pid int, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.names[pid] = name
}

// Leave forgets a process that has ended: its number may be another's soon.
func (p *Processes) Leave(pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.names, pid)
}

// Errors of [Processes.Name].
var (
	// ErrGone: the connection was closed at its other end.
	ErrGone = errors.New("the connection is gone")
	// ErrUnknown: none of the processes has it. One that was only just started may
	// be known in a moment.
	ErrUnknown = errors.New("no known process has the connection")
)

// Name returns the name of the process at the other end of a connection that was
// accepted. Errors: ErrGone, ErrUnknown. It looks through the open files of all
// processes, which takes milliseconds.
func (p *Processes) Name(c net.Conn) (string, error) {
	inode := socketOf(c.RemoteAddr(), c.LocalAddr())
	if inode == "" {
		return "", ErrGone
	}
	p.mu.Lock()
	names := maps.Clone(p.names)
	p.mu.Unlock()
	for pid, name := range names {
		if owns(pid, inode) {
			return name, nil
		}
	}
	return "", ErrUnknown
}
