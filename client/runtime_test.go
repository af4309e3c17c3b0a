package client

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	v1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/dial"
	"github.com/oncelog/oncelog/internal/task"
)

// errUnwound is what unwinds the tasks of a scheduler that has crashed.
var errUnwound = errors.New("unwound")

// scheduler runs tasks as goroutines on a clock of its own, and asks every
// millisecond whether a wait is over.
type scheduler struct {
	ahead   time.Duration // of the machine's clock, by which gRPC judges deadlines
	tasks   atomic.Int64  // that run
	drawn   atomic.Uint64
	crashed atomic.Bool
}

func (s *scheduler) Now() time.Time { return time.Now().Add(s.ahead) }

func (s *scheduler) Wall() time.Time { return s.Now() }

func (s *scheduler) Go(fn func()) {
	s.tasks.Add(1)
	go func() {
		defer s.tasks.Add(-1)
		_ = s.unwinds(fn)
	}()
}

// unwinds runs fn and reports whether a wait of it was unwound.
func (s *scheduler) unwinds(fn func()) (unwound bool) {
	defer func() {
		switch cause := recover(); cause {
		case nil:
		case errUnwound:
			unwound = true
		default:
			panic(cause)
		}
	}()
	fn()
	return false
}

func (s *scheduler) Wait(limit time.Duration, poll func() bool) bool {
	began := time.Now()
	for !poll() {
		if s.crashed.Load() {
			panic(errUnwound)
		}
		if limit >= 0 && time.Since(began) >= limit {
			return false
		}
		<-time.After(time.Millisecond)
	}
	return true
}

func (s *scheduler) After(d time.Duration, _ bool, fn func()) (stop func() bool) {
	return time.AfterFunc(d, fn).Stop
}

func (s *scheduler) Uint64() uint64 { return s.drawn.Add(0x9e3779b97f4a7c15) }

// dialIn connects a client that is run by s.
func (f *fake) dialIn(s *scheduler, opts ...Option) *Client {
	f.t.Helper()
	opts = append([]Option{WithDialOptions(grpc.WithContextDialer(f.dialer))}, opts...)
	c, err := Dial(task.With(context.Background(), task.New(s)), []string{"n1", "n2", "n3"}, opts...)
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// The client runs on the runtime that Dial's context carries: its tasks, its
// waits and its clock.
func TestRuntimeOfTheContext(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 3)
		s := &scheduler{ahead: 10 * 365 * 24 * time.Hour}
		c := f.dialIn(s)
		p := f.producer(c, WithTransactionTimeout(time.Second))
		k, err := c.Consume(within(t), "g", []string{"t"}, WithManualAssignment())
		must(t, err)

		// A leader that goes costs a pause.
		ends := 0
		f.onEnd = func(string, *v1.EndTransactionRequest) fate {
			if ends++; ends > 1 {
				return fate{}
			}
			f.leadCoordinator("n2")
			return fate{lose: true}
		}
		sent := to("a")
		must(t, p.Transact(within(t), func(tx *Tx) error { return tx.Send(within(t), sent) }))
		if off := s.Now().Sub(sent.Timestamp); off < 0 || off > time.Minute {
			t.Errorf("the record's time is %v, the runtime's %v", sent.Timestamp, s.Now())
		}
		b, err := k.Poll(within(t))
		must(t, err)
		if got := values(b); !slices.Equal(got, []string{"a"}) {
			t.Errorf("read %q", got)
		}
		must(t, k.Commit(within(t), b))

		// The transaction's timeout ends its context.
		tx := f.begin(p)
		f.send(tx, "late")
		<-tx.Context().Done()
		if cause := context.Cause(tx.Context()); !errors.Is(cause, ErrTxTimeout) {
			t.Errorf("cause %v", cause)
		}
		must(t, tx.Abort(within(t)))

		must(t, k.Close())
		must(t, p.Close())
		if s.tasks.Load() == 0 {
			t.Error("the client has no task of the runtime")
		}
		must(t, c.Close())
		synctest.Wait()
		if n := s.tasks.Load(); n != 0 {
			t.Errorf("%d tasks are left", n)
		}
	})
}

// A deadline of the runtime's clock bounds a call.
func TestDeadlineOfTheRuntime(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		s := &scheduler{ahead: 10 * 365 * 24 * time.Hour}
		c := f.dialIn(s)
		k, err := c.Consume(within(t), "", []string{"t"})
		must(t, err)
		began := time.Now()
		ctx, cancel := task.New(s).WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err = k.Poll(ctx)
		expect(t, err, ClassRetriable, context.DeadlineExceeded)
		if waited := time.Since(began); waited < time.Second || waited > 2*time.Second {
			t.Errorf("waited %v", waited)
		}

		// A transaction that it doomed was cancelled; the deadline was another's.
		tx := f.begin(f.producer(c))
		expect(t, tx.Send(ctx, &Record{Topic: "unknown"}), ClassAbortable, context.DeadlineExceeded)
		if err := tx.Context().Err(); !errors.Is(err, context.Canceled) {
			t.Errorf("the transaction's context: %v", err)
		}
		must(t, tx.Abort(within(t)))
		must(t, c.Close())
	})
}

// A scheduler that has its process crash unwinds the tasks that wait. Whatever
// they hold they give back once, and only that.
func TestWaitsCanBeUnwound(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 1)
		s := &scheduler{}
		c := f.dialIn(s)
		hold := make(chan struct{})
		f.onAppend = func(string, *v1.AppendRequest) fate { return fate{hold: hold} }
		p, err := c.IdempotentProducer(within(t), WithLinger(0), WithBufferMemory(1000))
		must(t, err)
		k, err := c.Consume(within(t), "", []string{"t"})
		must(t, err)
		large := make([]byte, 600)
		record := func() *Record { return (&Record{Topic: "t", Value: large}).WithPartition(0) }
		must(t, p.Send(within(t), record()))

		ctx := context.Background()
		calls := map[string]func(){
			"Flush": func() { _ = p.Flush(ctx) },
			"Send":  func() { _ = p.Send(ctx, record()) }, // waits for space
			"Poll":  func() { _, _ = k.Poll(ctx) },
			"Close": func() { _ = p.Close() },
		}
		var waiting sync.WaitGroup
		for name, call := range calls {
			waiting.Go(func() {
				if !s.unwinds(call) {
					t.Errorf("%s returned", name)
				}
			})
		}
		<-time.After(100 * time.Millisecond)
		s.crashed.Store(true)
		waiting.Wait()
		for name, lock := range map[string]*sync.Mutex{"client": &c.mu, "writer": &p.w.mu, "memory": &p.w.mem.mu, "consumer": &k.mu} {
			if !lock.TryLock() {
				t.Errorf("the mutex of the %s is held", name)
			} else {
				lock.Unlock()
			}
		}
		if len(p.closing) != 0 || len(k.polls) != 0 {
			t.Error("a lock is held")
		}
		close(hold)
		synctest.Wait()
		s.crashed.Store(false)
		must(t, c.Close())
	})
}

// Connections come from the maker that Dial's context carries, and are closed in
// the order of their addresses.
func TestConnectionsOfTheContext(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 3)
		var mu sync.Mutex
		var made, closed []string
		connect := func(address string) (dial.Conn, error) {
			cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithContextDialer(f.dialer),
				grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				return nil, err
			}
			mu.Lock()
			defer mu.Unlock()
			made = append(made, address)
			return &namedConn{ClientConn: cc, closed: func() {
				mu.Lock()
				defer mu.Unlock()
				closed = append(closed, address)
			}}, nil
		}
		c, err := Dial(dial.With(context.Background(), connect), []string{"n1", "n2", "n3"})
		must(t, err)
		p := f.producer(c)
		must(t, p.Transact(within(t), func(tx *Tx) error {
			for i := range int32(3) {
				if err := tx.Send(within(t), to("a").WithPartition(i)); err != nil {
					return err
				}
			}
			return nil
		}))
		must(t, c.Close())
		slices.Sort(made)
		if want := []string{"n1", "n2", "n3"}; !slices.Equal(made, want) || !slices.Equal(closed, want) {
			t.Errorf("connected to %v, closed %v", made, closed)
		}
	})
}

// namedConn tells that it was closed.
type namedConn struct {
	*grpc.ClientConn
	closed func()
}

func (c *namedConn) Close() error {
	c.closed()
	return c.ClientConn.Close()
}
