// Package pgserver starts a private PostgreSQL for tests, from the programs that are
// installed: in Debian, apt-get install postgresql.
package pgserver

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// TB is what this package needs of a test.
type TB interface {
	Helper()
	Cleanup(fn func())
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Logf(format string, args ...any)
}

// Server is a PostgreSQL server that listens on a socket in its own directory. It
// writes durably, as it is installed. Its methods are to be called one at a time.
type Server struct {
	t    TB
	dir  string
	bin  string
	attr *syscall.SysProcAttr

	mu      sync.Mutex
	proc    *exec.Cmd     // the process that runs, or the last one
	stopped bool          // it is not to be started again
	ended   chan struct{} // closed when supervise has ended; nil: it does not run
}

// again is how long a server that has ended by itself stays away.
const again = 50 * time.Millisecond

// Start makes a database in a new directory and starts its server, which ends with the
// test. Without PostgreSQL the test is skipped, unless CI is set, where it fails:
// what is skipped there is not tested at all.
func Start(t TB) *Server {
	t.Helper()
	bin, err := programs()
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%v", err)
		}
		t.Skipf("skipped: %v", err)
	}
	// Not t.TempDir: a socket's path must be short, and another user has to enter.
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		t.Fatalf("%v", err)
	}
	s := &Server{t: t, dir: dir, bin: bin}
	t.Cleanup(func() {
		s.Kill()
		_ = os.RemoveAll(dir)
	})
	if err := s.owner(); err != nil {
		t.Fatalf("%v", err)
	}
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", s.data(), "-U", "test", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = s.attr, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	s.Restart()
	return s
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// owner chooses the user: PostgreSQL refuses to be root.
func (s *Server) owner() error {
	s.attr = childAttributes()
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		s.attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		return os.Chown(s.dir, uid, gid)
	}
	return errors.New("root cannot run PostgreSQL, and there is no user postgres or nobody")
}

// programs returns the folder of the newest installed server.
func programs() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", err
	}
	slices.SortFunc(found, func(a, b string) int { return version(a) - version(b) })
	if len(found) > 0 {
		return filepath.Dir(found[len(found)-1]), nil
	}
	path, err := exec.LookPath("postgres")
	if err != nil {
		return "", errors.New("there is no PostgreSQL: apt-get install postgresql (Debian), or put its programs into PATH")
	}
	return filepath.Dir(path), nil
}

func version(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // not a number: the oldest
	return n
}

// URL is how to connect: as the superuser, to the database postgres.
func (s *Server) URL() string {
	return "postgres:///postgres?user=test&host=" + s.dir
}

// Restart starts the server after Kill. It does not wait until it answers: that is for
// clients to ride out.
func (s *Server) Restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped, s.ended = false, make(chan struct{})
	go s.supervise(s.ended)
}

// supervise runs the server until Kill. One that was started too early ends: processes
// of the one before may still be leaving its shared memory.
func (s *Server) supervise(ended chan struct{}) {
	defer close(ended)
	for {
		p, err := s.start()
		switch {
		case err != nil:
			s.t.Logf("start postgres: %v", err)
			return
		case p == nil:
			return
		}
		_ = p.Wait()
		<-time.After(again)
	}
}

// start starts the process; nil: Kill came first.
func (s *Server) start() (*exec.Cmd, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil, nil
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := exec.Command(filepath.Join(s.bin, "postgres"), "-D", s.data(), "-k", s.dir,
		"-c", "listen_addresses=", "-c", "max_connections=50", "-c", "shared_buffers=16MB")
	p.SysProcAttr, p.Dir, p.Stdout, p.Stderr = s.attr, s.dir, log, log
	s.proc = p
	return p, p.Start()
}

// Kill kills the server with SIGKILL. Its children end when they see that.
func (s *Server) Kill() {
	s.mu.Lock()
	ended := s.ended
	s.stopped, s.ended = true, nil
	if s.proc != nil && s.proc.Process != nil {
		_ = s.proc.Process.Kill() // it may have ended by itself
	}
	s.mu.Unlock()
	if ended != nil {
		<-ended
	}
}

// Log returns what the server has said.
func (s *Server) Log() string {
	text, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return fmt.Sprint(err)
	}
	return string(text)
}
