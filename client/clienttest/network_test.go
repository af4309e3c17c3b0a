package clienttest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// pair returns a network and both ends of a connection of a to b.
func pair(t *testing.T) (n *network, a, b net.Conn) {
	t.Helper()
	n = newNetwork()
	n.place("b:1", "b")
	l := n.listen("b:1")
	t.Cleanup(func() { _ = l.Close() })
	a, err := n.dial(t.Context(), "a", "b:1")
	if err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return n, a, b
}

// received is what a read returned.
type received struct {
	text string
	err  error
}

// reading reads once in the background.
func reading(c net.Conn) <-chan received {
	out := make(chan received, 1)
	go func() {
		p := make([]byte, 64)
		n, err := c.Read(p)
		out <- received{string(p[:n]), err}
	}()
	return out
}

// waits fails the test if a read has returned.
func waits(t *testing.T, r <-chan received) {
	t.Helper()
	synctest.Wait()
	select {
	case got := <-r:
		t.Fatalf("read %q, %v; it should wait", got.text, got.err)
	default:
	}
}

func gets(t *testing.T, r <-chan received, text string, err error) {
	t.Helper()
	synctest.Wait()
	select {
	case got := <-r:
		if got.text != text || !errors.Is(got.err, err) {
			t.Fatalf("read %q, %v, want %q, %v", got.text, got.err, text, err)
		}
	default:
		t.Fatalf("the read waits, want %q, %v", text, err)
	}
}

func write(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if n, err := io.WriteString(c, text); err != nil || n != len(text) {
		t.Fatalf("write: %d, %v", n, err)
	}
}

func TestCutKeepsBytesOfOneDirection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		n.cut("a", "b")
		write(t, a, "there")
		write(t, b, "back")
		gets(t, reading(a), "back", nil)
		r := reading(b)
		waits(t, r)
		n.heal()
		gets(t, r, "there", nil)
	})
}

func TestPauseKeepsBytesOfBothDirections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		n.pause("a", true)
		write(t, a, "there")
		write(t, b, "back")
		there, back := reading(b), reading(a)
		waits(t, there)
		waits(t, back)
		n.pause("a", false)
		gets(t, there, "there", nil)
		gets(t, back, "back", nil)
	})
}

func TestCloseIsReadAfterTheData(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		write(t, a, "last words")
		n.cut("a", "b")
		_ = a.Close()
		r := reading(b)
		waits(t, r)
		if _, err := a.Write(nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write to a closed end: %v", err)
		}
		gets(t, reading(a), "", net.ErrClosed)
		n.heal()
		gets(t, r, "last words", nil)
		gets(t, reading(b), "", io.EOF)
		if _, err := b.Write([]byte("nobody reads it")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("write to an end that nobody reads: %v", err)
		}
		_ = b.Close()
		if len(n.links) != 0 {
			t.Error("a connection that both ends have closed is remembered")
		}
	})
}

func TestDeathIsAReset(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		write(t, b, "under way")
		n.cut("b", "a")
		n.die("b")
		gets(t, reading(b), "", net.ErrClosed)
		r := reading(a)
		waits(t, r)
		n.heal()
		gets(t, r, "", syscall.ECONNRESET)
		if _, err := n.dial(t.Context(), "a", "b:1"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial to the dead: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := n.dial(ctx, "b", "b:1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the dead dials: %v", err)
		}
	})
}

func TestSeverResetsBothEndsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		n.pause("b", true)
		there, back := reading(b), reading(a)
		n.sever("b", "a")
		gets(t, there, "", syscall.ECONNRESET)
		gets(t, back, "", syscall.ECONNRESET)
		if _, err := a.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("write: %v", err)
		}
	})
}

func TestReadDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		r := reading(a)
		waits(t, r)
		_ = a.SetDeadline(time.Now().Add(time.Minute))
		waits(t, r)
		<-time.After(time.Minute)
		gets(t, r, "", os.ErrDeadlineExceeded)
		_ = a.SetDeadline(time.Time{})
		write(t, b, "later")
		gets(t, reading(a), "later", nil)
	})
}

func TestDialWaitsForACutAndIsRefusedByNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		n.place("b:1", "b")
		if _, err := n.dial(t.Context(), "a", "b:1"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial without a listener: %v", err)
		}
		l := n.listen("b:1")
		n.cut("b", "a")
		dialed := make(chan net.Conn, 1)
		go func() {
			c, _ := n.dial(t.Context(), "a", "b:1")
			dialed <- c
		}()
		synctest.Wait()
		if len(dialed) > 0 {
			t.Fatal("connected over a cut")
		}
		n.heal()
		a := <-dialed
		_ = l.Close()
		gets(t, reading(a), "", io.EOF) // it was never accepted
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept: %v", err)
		}
	})
}
