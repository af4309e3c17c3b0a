package netfault

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"testing"
)

// TestProcesses: connections are told apart by who opened them, although they all
// come from one address.
func TestProcesses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), dialVariable+"="+l.Addr().String())
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	theirs, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	own, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	ours, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()

	p := NewProcesses()
	check := func(when, wantTheirs, wantOurs string) {
		t.Helper()
		for _, x := range []struct {
			c    net.Conn
			want string
		}{{theirs, wantTheirs}, {ours, wantOurs}} {
			name, err := p.Name(x.c)
			if name != x.want || (name == "") != errors.Is(err, ErrUnknown) {
				t.Errorf("%s: name %q, %v; want %q", when, name, err, x.want)
			}
		}
	}
	check("nobody is known", "", "")
	p.Enter(os.Getpid(), "us")
	check("one is known", "", "us")
	p.Enter(child.Process.Pid, "them")
	check("both are known", "them", "us")
	p.Leave(os.Getpid())
	check("one was forgotten", "them", "")
	_ = theirs.Close()
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := p.Name(theirs); !errors.Is(err, ErrGone) {
		t.Errorf("a closed connection: %v", err)
	}
}
