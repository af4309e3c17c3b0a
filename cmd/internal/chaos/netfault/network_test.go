package netfault

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// dialVariable makes the test binary a process that dials an address.
const dialVariable = "NETFAULT_DIAL"

// dialAndWait opens a connection and keeps it until the other end is closed.
func dialAndWait(address string) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		os.Exit(1)
	}
	_, _ = io.ReadAll(c)
}

func TestMain(m *testing.M) {
	if address := os.Getenv(dialVariable); address != "" {
		dialAndWait(address)
		return
	}
	goleak.VerifyTestMain(m)
}

// patience bounds what should happen at once.
const patience = 20 * time.Second

// pair is a connection through a network: b was dialed by a.
type pair struct {
	t    *testing.T
	n    *Network
	door string
	l    *net.TCPListener
	a, b *net.TCPConn
}

// newPair opens a door to a listener and a connection through it.
func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{t: t, n: New(func(net.Conn, string) string { return "a" })}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.l = l.(*net.TCPListener)
	if p.door, err = p.n.Door("b", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = l.Close()
		if err := p.n.Close(); err != nil {
			t.Error(err)
		}
	})
	p.a, p.b = p.dial(), p.accept()
	return p
}

func (p *pair) dial() *net.TCPConn {
	p.t.Helper()
	c, err := net.Dial("tcp", p.door)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.own(c)
}

func (p *pair) accept() *net.TCPConn {
	p.t.Helper()
	_ = p.l.SetDeadline(time.Now().Add(patience))
	c, err := p.l.Accept()
	if err != nil {
		p.t.Fatal(err)
	}
	return p.own(c)
}

func (p *pair) own(c net.Conn) *net.TCPConn {
	p.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

func (p *pair) write(c *net.TCPConn, s string) {
	p.t.Helper()
	if _, err := c.Write([]byte(s)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) wantRead(c *net.TCPConn, want string) {
	p.t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		p.t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

// wantSilence checks that nothing has come, not even an end.
func (p *pair) wantSilence(c *net.TCPConn) {
	p.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(-time.Second))
	k, err := c.Read(make([]byte, 1))
	if k > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Fatalf("read %d bytes, %v; want silence", k, err)
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
}

func (p *pair) wantEnd(c *net.TCPConn) {
	p.t.Helper()
	if k, err := c.Read(make([]byte, 1)); k > 0 || !errors.Is(err, io.EOF) {
		p.t.Fatalf("read %d bytes, %v; want the end", k, err)
	}
}

func (p *pair) wantBroken(c *net.TCPConn) {
	p.t.Helper()
	_, err := c.Read(make([]byte, 1))
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Fatalf("read: %v; want a broken connection", err)
	}
}

// await waits until cond holds.
func (p *pair) await(what string, cond func() bool) {
	p.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(patience); !cond(); <-tick.C {
		if time.Now().After(limit) {
			p.t.Fatalf("%s: not within %v; %+v", what, patience, p.n.Stats())
		}
	}
}

func (p *pair) awaitHeld(bytes int64) {
	p.t.Helper()
	p.await("bytes are held back", func() bool { return p.n.Stats().Held == bytes })
}

func cut(from, to string) Rules {
	return func(f, t string) Rule { return Rule{Cut: f == from && t == to} }
}

func TestPasses(t *testing.T) {
	p := newPair(t)
	p.write(p.a, "hello")
	p.wantRead(p.b, "hello")
	p.write(p.b, "world")
	p.wantRead(p.a, "world")
	if err := p.a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	p.wantEnd(p.b)
	p.write(p.b, "still there")
	p.wantRead(p.a, "still there")
	_ = p.b.Close()
	p.wantEnd(p.a)
	p.await("the connection is forgotten", func() bool { return p.n.Stats().Connections == 0 })
	if s := p.n.Stats(); s.Passed != 21 || s.Held != 0 {
		t.Errorf("counted %+v", s)
	}
}

// TestCut: what is sent in a direction that is cut arrives when the cut is over,
// and not before; the other direction is not touched.
func TestCut(t *testing.T) {
	p := newPair(t)
	for _, way := range []struct {
		from, to string
		src, dst *net.TCPConn
	}{{"a", "b", p.a, p.b}, {"b", "a", p.b, p.a}} {
		p.n.Set(cut(way.from, way.to))
		p.write(way.src, "late")
		p.awaitHeld(4)
		p.write(way.dst, "back")
		p.wantRead(way.src, "back")
		p.wantSilence(way.dst)
		p.n.Set(nil)
		p.wantRead(way.dst, "late")
		p.awaitHeld(0)
	}
}

// TestCutHoldsEnds: an end is not known on the other side of a cut either.
func TestCutHoldsEnds(t *testing.T) {
	p := newPair(t)
	p.n.Set(cut("a", "b"))
	p.write(p.a, "last words")
	_ = p.a.Close()
	p.awaitHeld(10)
	p.wantSilence(p.b)
	p.n.Set(nil)
	p.wantRead(p.b, "last words")
	p.wantEnd(p.b)
}

// TestCutHoldsNewConnections: in whatever direction the cut is, no connection
// comes to be.
func TestCutHoldsNewConnections(t *testing.T) {
	p := newPair(t)
	for _, rules := range []Rules{cut("a", "b"), cut("b", "a")} {
		p.n.Set(rules)
		before := p.n.Stats().Connections
		c := p.dial()
		p.await("the door takes it", func() bool { return p.n.Stats().Connections == before+1 })
		_ = p.l.SetDeadline(time.Now().Add(-time.Second))
		if _, err := p.l.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("accept: %v; want nobody", err)
		}
		p.write(c, "hello")
		p.wantSilence(c)
		p.n.Set(nil)
		p.wantRead(p.accept(), "hello")
	}
}

// TestDelay: nothing comes sooner than it may, and order is kept whatever the
// jitter.
func TestDelay(t *testing.T) {
	p := newPair(t)
	const delay = 30 * time.Millisecond
	p.n.Set(func(from, _ string) Rule {
		if from == "a" {
			return Rule{Delay: delay, Jitter: delay}
		}
		return Rule{}
	})
	begin := time.Now()
	for _, s := range []string{"one", "two", "three"} {
		p.write(p.a, s)
	}
	p.wantRead(p.b, "one")
	if took := time.Since(begin); took < delay {
		t.Errorf("it came after %v", took)
	}
	p.wantRead(p.b, "twothree")
}

func TestReset(t *testing.T) {
	p := newPair(t)
	if n := p.n.Reset(func(from, to string) bool { return from == "b" && to == "a" }); n != 0 {
		t.Errorf("%d connections from b to a", n)
	}
	p.write(p.a, "unharmed")
	p.wantRead(p.b, "unharmed")
	if n := p.n.Reset(func(from, to string) bool { return from == "a" && to == "b" }); n != 1 {
		t.Errorf("%d connections from a to b", n)
	}
	p.wantBroken(p.a)
	p.wantBroken(p.b)
}

// TestHalfOpen: one end is told, the other goes on talking to nobody.
func TestHalfOpen(t *testing.T) {
	all := func(string, string) bool { return true }
	for _, back := range []bool{false, true} {
		p := newPair(t)
		p.write(p.a, "hello")
		p.wantRead(p.b, "hello")
		unaware, told := p.a, p.b
		if back {
			unaware, told = p.b, p.a
		}
		if n := p.n.HalfOpen(all, back); n != 1 {
			t.Fatalf("%d connections", n)
		}
		p.wantBroken(told)
		passed := p.n.Stats().Passed
		p.write(unaware, "anybody?")
		p.await("it is swallowed", func() bool { return p.n.Stats().Held == 0 })
		p.wantSilence(unaware)
		if s := p.n.Stats(); s.Passed != passed || s.Connections != 1 {
			t.Errorf("counted %+v", s)
		}
		_ = unaware.Close()
		p.await("it is forgotten", func() bool { return p.n.Stats().Connections == 0 })
	}
}

// TestHalfClose: one direction ends in order, the other goes on.
func TestHalfClose(t *testing.T) {
	all := func(string, string) bool { return true }
	for _, back := range []bool{false, true} {
		p := newPair(t)
		src, dst := p.a, p.b
		if back {
			src, dst = p.b, p.a
		}
		if n := p.n.HalfClose(all, back); n != 1 {
			t.Fatalf("%d connections", n)
		}
		p.wantEnd(dst)
		p.write(src, "lost")
		p.write(dst, "other way")
		p.wantRead(src, "other way")
	}
}

// TestBulk: a lot of bytes in both directions, under changing rules, arrives
// whole and in order.
func TestBulk(t *testing.T) {
	p := newPair(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	data := make([]byte, 8<<20)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	var wg sync.WaitGroup
	for _, way := range [][2]*net.TCPConn{{p.a, p.b}, {p.b, p.a}} {
		wg.Go(func() {
			for rest := data; len(rest) > 0; {
				k, err := way[0].Write(rest[:min(len(rest), 100_000)])
				if err != nil {
					t.Error(err)
					return
				}
				rest = rest[k:]
			}
		})
		wg.Go(func() {
			got := make([]byte, len(data))
			if _, err := io.ReadFull(way[1], got); err != nil || !bytes.Equal(got, data) {
				t.Errorf("what arrived is not what was sent (%v)", err)
			}
		})
	}
	stop, flipping := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(flipping)
		for i := 0; ; i++ {
			select {
			case <-stop:
				p.n.Set(nil)
				return
			default:
				p.n.Set(func(from, _ string) Rule {
					return Rule{Cut: i%3 == 0 && from == "a", Jitter: time.Duration(i%2) * time.Millisecond}
				})
				_ = p.n.Stats()
			}
		}
	}()
	p.await("half of it has passed", func() bool { return p.n.Stats().Passed > int64(len(data)) })
	close(stop)
	<-flipping
	wg.Wait()
}

// TestRefused: a process that is not there refuses, through a door, too.
func TestRefused(t *testing.T) {
	p := newPair(t)
	_ = p.l.Close()
	c, err := net.Dial("tcp", p.door)
	if err == nil { // it may be broken sooner than it is made
		_, err = io.ReadAll(p.own(c))
	}
	if err == nil {
		t.Error("a connection to nobody ended in order")
	}
}

// TestStranger: a connection of nobody is broken, and nobody hears of it.
func TestStranger(t *testing.T) {
	p := newPair(t)
	n := New(func(net.Conn, string) string { return "" })
	defer n.Close()
	door, err := n.Door("b", p.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", door)
	if err == nil { // it may be broken sooner than it is made
		p.wantBroken(p.own(c))
	}
	_ = p.l.SetDeadline(time.Now().Add(-time.Second))
	if _, err := p.l.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("accept: %v; want nobody", err)
	}
}

func TestClosedNetworkHasNoDoors(t *testing.T) {
	n := New(func(net.Conn, string) string { return "" })
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Door("b", "127.0.0.1:1"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("door: %v", err)
	}
}
