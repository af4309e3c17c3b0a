package limits

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// rig is a server whose calls do what serve does, and its meter, which nobody sweeps but the
// test. It stops at the end of the test.
type rig struct {
	*testing.T
	meter   *Meter
	address string
}

const (
	one  = "/test.Service/One"  // a call with one request
	many = "/test.Service/Many" // a stream of requests
)

func newRig(t *testing.T, change func(*Config), serve grpc.StreamHandler) *rig {
	t.Helper()
	cfg := Config{
		Bytes: 64 << 20, MessageBytes: 4 << 20, Calls: 1000, ConnectionsPerPrincipal: 10, ReceiveTimeout: time.Hour, SendTimeout: time.Hour,
		RequestStreams: func(method string) bool { return method == many },
	}
	if change != nil {
		change(&cfg)
	}
	r := &rig{T: t, meter: NewMeter(cfg)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := NewPrincipals(1000, 1<<30)
	server := grpc.NewServer(append(r.meter.ServerOptions(),
		grpc.Creds(r.meter.Credentials(insecure.NewCredentials())), grpc.MaxRecvMsgSize(int(cfg.MessageBytes)),
		grpc.InitialWindowSize(8<<20), grpc.UnknownServiceHandler(func(srv any, ss grpc.ServerStream) error {
			return p.Stream(srv, ss, nil, serve)
		}))...)
	r.address = l.Addr().String()
	l = Listen(l, 1000, 1000, cfg.Log)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return r
}

// until waits for what other goroutines are about to do.
func (r *rig) until(what string, ok func(Usage) bool) {
	r.Helper()
	for end := time.Now().Add(time.Minute); !ok(r.meter.Usage()); runtime.Gosched() {
		if time.Now().After(end) {
			r.Fatalf("%s: %+v", what, r.meter.Usage())
		}
	}
}

// client speaks HTTP/2 frame by frame. It grants nothing that it is not told to.
type client struct {
	*rig
	net.Conn
	*http2.Framer
	headers bytes.Buffer
	encoder *hpack.Encoder
}

func (r *rig) dial() *client {
	r.Helper()
	conn, err := net.Dial("tcp", r.address)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = conn.Close() })
	c := &client{rig: r, Conn: conn, Framer: http2.NewFramer(conn, conn)}
	c.encoder = hpack.NewEncoder(&c.headers)
	_, err = io.WriteString(conn, http2.ClientPreface)
	c.must(err)
	c.must(c.WriteSettings())
	return c
}

func (c *client) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

// begin opens a stream and says that a message of so many bytes comes.
func (c *client) begin(stream uint32, method string, size uint32) {
	c.Helper()
	c.headers.Reset()
	for _, h := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", method}, {":authority", "test"},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		c.must(c.encoder.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}))
	}
	c.must(c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.headers.Bytes(), EndHeaders: true}))
	c.must(c.WriteData(stream, false, []byte{0, byte(size >> 24), byte(size >> 16), byte(size >> 8), byte(size)}))
}

// closed reads until the server has closed the connection.
func (c *client) closed() {
	c.Helper()
	c.must(c.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err := io.Copy(io.Discard, c.Conn)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		c.Fatal("the connection is open")
	}
}

// takes reads one message and answers nothing.
func takes(_ any, ss grpc.ServerStream) error { return ss.RecvMsg(&wrapperspb.BytesValue{}) }

// TestFramesAreFound: however what is sent is cut into pieces.
func TestFramesAreFound(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	var sent bytes.Buffer
	sent.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&sent, nil)
	var want []frame
	for range 500 {
		f := frame{stream: uint32(rnd.IntN(1<<31-1) + 1), length: uint32(rnd.IntN(300))}
		var err error
		switch rnd.IntN(4) {
		case 0:
			f.kind, f.flags = frameData, flagEndStream
			err = framer.WriteData(f.stream, true, make([]byte, f.length))
		case 1:
			f.kind = frameHeaders
			err = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: f.stream, BlockFragment: make([]byte, f.length)})
		case 2:
			f.kind, f.length = frameReset, 4
			err = framer.WriteRSTStream(f.stream, http2.ErrCodeCancel)
		case 3:
			f.stream, f.length, f.kind = 0, 8, 0x6
			err = framer.WritePing(false, [8]byte{})
		}
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, f)
	}
	r := frameReader{skip: prefaceBytes}
	var got []frame
	for b := sent.Bytes(); len(b) > 0; {
		n := min(1+rnd.IntN(40), len(b))
		r.read(b[:n], func(f frame) { got = append(got, f) })
		b = b[n:]
	}
	if len(got) != len(want) {
		t.Fatalf("seed %d: %d frames, want %d", seed, len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("seed %d: frame %d is %+v, want %+v", seed, i, got[i], want[i])
		}
	}
}

// TestWhatIsHeldIsCounted: to the byte, of messages that do not end, until their streams do,
// one way or another.
func TestWhatIsHeldIsCounted(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, takes)
	c, gone := r.dial(), r.dial()
	const streams, piece = 50, 1000
	for i := range uint32(streams) {
		method := one
		if i%2 == 0 {
			method = many
		}
		for _, c := range []*client{c, gone} {
			c.begin(2*i+1, method, 2*piece)
			c.must(c.WriteData(2*i+1, false, make([]byte, piece)))
		}
	}
	r.until("all has come", func(u Usage) bool { return u.Received == 2*streams*(piece+5) && u.Calls == 2*streams })
	r.must(gone.Close())
	r.until("a connection went", func(u Usage) bool { return u.Received == streams*(piece+5) && u.Calls == streams })
	for i := range uint32(streams) {
		if i < streams/2 {
			c.must(c.WriteRSTStream(2*i+1, http2.ErrCodeCancel))
		} else {
			c.must(c.WriteData(2*i+1, true, make([]byte, piece)))
		}
	}
	r.until("all is over", func(u Usage) bool { return u.Received == 0 && u.Handed == 0 && u.Calls == 0 })
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// TestWhoHoldsMostGoes: at the bound the connection that holds most is closed, and no other;
// before, it gets no more calls.
func TestWhoHoldsMostGoes(t *testing.T) {
	t.Parallel()
	const bound = 4 << 20
	r := newRig(t, func(c *Config) { c.Bytes = bound }, takes)
	light, heavy := r.dial(), r.dial()
	light.begin(1, many, 1<<20)
	light.must(light.WriteData(1, false, make([]byte, 10<<10)))
	go func() { _, _ = io.Copy(io.Discard, light.Conn) }()
	stream := uint32(1)
	for sent := 0; sent < bound/connectionShare+16<<10; sent += 16 << 10 {
		heavy.begin(stream, many, 1<<20)
		heavy.must(heavy.WriteData(stream, false, make([]byte, 16<<10)))
		stream += 2
	}
	before := int64(stream-1) / 2
	r.until("calls of the heavy one", func(u Usage) bool { return u.Calls+int64(u.Refused) == before+1 })
	heavy.begin(stream, many, 1<<20)
	r.until("no more calls", func(u Usage) bool { return u.Refused > 0 })
	if r.meter.Usage().Evicted > 0 {
		t.Error("somebody was closed below the bound")
	}
	piece := make([]byte, 16<<10)
	for i := uint32(1); ; i = (i + 2) % 60 {
		if heavy.WriteData(i, false, piece) != nil {
			break
		}
		if u := r.meter.Usage(); u.Received > bound+1<<20 {
			t.Fatalf("%+v is held", u)
		}
	}
	r.until("the light one is left", func(u Usage) bool { return u.Evicted == 1 && u.Received == 10<<10+5 && u.Calls == 1 })
}

// TestMessagesThatDoNotCome: a call ends whose message does not come to its end in time, how
// often a byte of it may come; one whose message has come stays.
func TestMessagesThatDoNotCome(t *testing.T) {
	t.Parallel()
	// The header of the message that has come counts until its call ends, of one request.
	for method, begun := range map[string]int64{one: 10, many: 5} {
		r := newRig(t, nil, func(_ any, ss grpc.ServerStream) error {
			if err := ss.RecvMsg(&wrapperspb.BytesValue{}); err != nil {
				return err
			}
			<-ss.Context().Done()
			return nil
		})
		c := r.dial()
		c.begin(1, method, 0) // complete, and under way
		c.begin(3, method, 100)
		r.until("both have begun", func(u Usage) bool { return u.Calls == 2 && u.Received == begun })
		for i := range sweeps + 1 {
			if u := r.meter.Usage(); u.Ended > 0 {
				t.Fatalf("%s: ended after %d of %d sweeps", method, i, sweeps)
			}
			c.must(c.WriteData(3, false, []byte{0}))
			r.until("another byte", func(u Usage) bool { return u.Received == begun+int64(i)+1 })
			r.meter.sweep((*stream).stuckIn, receiveTimeout)
		}
		r.until("the slow one is gone", func(u Usage) bool { return u.Ended == 1 && u.Calls == 1 })
		r.counted(receiveTimeout, 1)
	}
}

// TestPiecesThatAreTooSmall: each costs far more than it counts.
func TestPiecesThatAreTooSmall(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, takes)
	c := r.dial()
	c.begin(1, many, 1<<20)
	for range smallAfter + 10 {
		if c.WriteData(1, false, []byte{0}) != nil {
			break
		}
	}
	c.closed()
	r.until("closed", func(u Usage) bool { return u.Evicted == 1 && u.Received == 0 })
	r.counted(smallPieces, 1)
}

// TestWhoDoesNotRead: what waits is counted, and its stream ends if nothing is read for too
// long; what waits of a service that is done ends with the connection; and at the bound it
// ends at once.
func TestWhoDoesNotRead(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	endless := func(_ any, ss grpc.ServerStream) error {
		for {
			if err := ss.SendMsg(wrapperspb.Bytes(make([]byte, size))); err != nil {
				return err
			}
		}
	}
	t.Run("stream", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, nil, endless)
		c := r.dial()
		go func() { _, _ = io.Copy(io.Discard, c.Conn) }() // it reads, and grants no window
		c.begin(1, one, 0)
		r.until("two messages wait", func(u Usage) bool { return u.Handed > size && u.Calls == 1 })
		for range sweeps + 2 {
			r.meter.sweep((*stream).stuckOut, sendTimeout)
		}
		r.until("the call is over", func(u Usage) bool { return u.Ended >= 1 && u.Calls == 0 })
		r.counted(sendTimeout, r.meter.Usage().Ended) // once more where the call was over already
		for range sweeps + 2 {
			r.meter.sweep((*stream).stuckOut, sendTimeout) // what was handed over before waits still
		}
		r.until("nothing is held", func(u Usage) bool { return u.Handed == 0 })
	})
	t.Run("bound", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, func(c *Config) { c.Bytes = 10 * size }, endless)
		c := r.dial()
		go func() { _, _ = io.Copy(io.Discard, c.Conn) }()
		for i := range uint32(20) {
			c.begin(2*i+1, one, 0)
		}
		r.until("closed", func(u Usage) bool { return u.Evicted == 1 && u.Handed == 0 && u.Calls == 0 })
		r.counted(maxInflightBytes, 1)
	})
}

// TestEvictedOnce: several tasks that find the same connection the heaviest close it once.
func TestEvictedOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, takes)
	c := r.dial()
	c.begin(1, many, 1<<20)
	r.until("a call", func(u Usage) bool { return u.Calls == 1 })
	r.meter.mu.Lock()
	served := slices.Collect(maps.Keys(r.meter.conns))
	r.meter.mu.Unlock()
	if len(served) != 1 {
		t.Fatalf("%d connections", len(served))
	}
	if !r.meter.evict(served[0], "first") || r.meter.evict(served[0], "second") {
		t.Error("closed twice, or not at all")
	}
	if n := r.meter.Usage().Evicted; n != 1 {
		t.Errorf("%d were closed", n)
	}
	c.closed()
}

// TestCalls: beyond their number they are refused with what to do, and nothing is begun.
func TestCalls(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Calls = 2 }, func(_ any, ss grpc.ServerStream) error {
		<-ss.Context().Done()
		return nil
	})
	conn, err := grpc.NewClient("passthrough:///"+r.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	r.must(err)
	t.Cleanup(func() { _ = conn.Close() })
	for range 2 {
		_, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, many)
		r.must(err)
	}
	r.until("two", func(u Usage) bool { return u.Calls == 2 })
	err = conn.Invoke(t.Context(), one, wrapperspb.Bytes(nil), &wrapperspb.BytesValue{})
	e := apierrors.From(err)
	if e == nil || e.Code != oncelogv1.ErrorCode_ERROR_CODE_OVERLOADED || e.RetryAfter() != RetryAfter {
		t.Errorf("%v", err)
	}
	if u := r.meter.Usage(); u.Calls != 2 || u.Refused != 1 {
		t.Errorf("%+v", u)
	}
	r.counted(maxCalls, 1)
}

// TestWhatIsLargeOnceInflated: it is refused by the size that it gets, and no more than fit
// are inflated at a time.
func TestWhatIsLargeOnceInflated(t *testing.T) {
	t.Parallel()
	handled := make(chan struct{})
	r := newRig(t, func(c *Config) { c.Bytes = 4 * c.MessageBytes }, func(srv any, ss grpc.ServerStream) error {
		if err := takes(srv, ss); err != nil {
			return err
		}
		handled <- struct{}{}
		return ss.SendMsg(wrapperspb.Bytes(nil))
	})
	conn, err := grpc.NewClient("passthrough:///"+r.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	r.must(err)
	t.Cleanup(func() { _ = conn.Close() })
	send := func(n int) <-chan codes.Code {
		done := make(chan codes.Code, 1)
		go func() {
			err := conn.Invoke(t.Context(), one, wrapperspb.Bytes(make([]byte, n)), &wrapperspb.BytesValue{}, grpc.UseCompressor(gzip.Name))
			done <- status.Code(err)
		}()
		return done
	}
	if code := <-send(64 << 20); code != codes.ResourceExhausted {
		t.Error("what becomes too large:", code)
	}
	first, second := send(1<<20), send(1<<20)
	r.until("both are there", func(u Usage) bool { return u.Calls == 2 })
	<-handled
	if n := len(r.meter.inflating); n != 1 {
		t.Errorf("%d are inflated at a time", n)
	}
	<-handled
	if a, b := <-first, <-second; a != codes.OK || b != codes.OK {
		t.Error("what is small enough:", a, b)
	}
	r.until("all is given back", func(u Usage) bool { return len(r.meter.inflating) == 0 && u.Calls == 0 && u.Received == 0 })
}

func TestConnectionsOfAPrincipal(t *testing.T) {
	t.Parallel()
	const most = 3
	r := newRig(t, func(c *Config) {
		c.ConnectionsPerPrincipal = most
		c.Who = func(credentials.AuthInfo) string { return "shop" }
	}, takes)
	var all []*client
	for range most {
		c := r.dial()
		c.begin(1, one, 1)
		all = append(all, c)
	}
	r.until("all are in", func(u Usage) bool { return u.Calls == most })
	beyond, err := net.Dial("tcp", r.address)
	r.must(err)
	(&client{rig: r, Conn: beyond}).closed()
	r.counted(maxConnectionsPerPrincipal, 1)
	r.must(all[0].Close())
	r.until("one left", func(u Usage) bool { return u.Calls == most-1 })
	r.meter.mu.Lock()
	if n := r.meter.of["shop"]; n != most-1 {
		t.Errorf("%d connections are counted", n)
	}
	r.meter.mu.Unlock()
	r.dial().begin(1, one, 1)
	r.until("another is in", func(u Usage) bool { return u.Calls == most })
}

func TestPrincipals(t *testing.T) {
	t.Parallel()
	p := NewPrincipals(2, 100)
	enter := func(who string, bytes int64, refusedBy string) func() {
		t.Helper()
		leave, err := p.enter(who, bytes)
		var e *apierrors.Error
		switch {
		case refusedBy == "" && err != nil, refusedBy != "" && !errors.As(err, &e):
			t.Fatalf("%s with %d bytes: %v", who, bytes, err)
		case refusedBy != "" && (e.Metadata[apierrors.KeyQuota] != refusedBy || e.Metadata[apierrors.KeyPrincipal] != who || e.RetryAfter() == 0):
			t.Errorf("%+v", e)
		}
		return leave
	}
	large := enter("shop", 1000, "") // alone it may be of any size
	enter("shop", 1, "request_bytes")
	enter("billing", 60, "")
	enter("billing", 41, "request_bytes")
	enter("billing", 40, "")
	enter("billing", 0, "calls")
	large()
	enter("shop", 100, "")()
	if len(p.by) != 1 {
		t.Errorf("who has nothing under way is remembered: %v", p.by)
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	if n := Memory(); n < 64<<20 {
		t.Errorf("%d bytes of memory", n)
	}
	if n := total([]byte("MemFree: 1 kB\nMemTotal:       24052356 kB\n")); n != 24052356<<10 {
		t.Error(n)
	}
	if n := total([]byte("MemTotal: lots\n")); n != 0 {
		t.Error(n)
	}
}
