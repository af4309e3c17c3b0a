package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// Limits of the nodes of TestHostileLoad, and what they may hold.
const (
	hostileInflight = 64 << 20
	hostileIDs      = 100
	hostileConns    = 200
	hostilePace     = 10 * time.Millisecond // of each that does its worst
	// hostileMemory is how much more resident memory a node may have had at its worst than
	// before: what came and what waits, half of it more for appends, and as much again for
	// what is garbage until it is collected.
	hostileMemory = 4 * hostileInflight
	// hostileTransactions are those of the good client, before and meanwhile.
	hostileTransactions = 25
)

// TestHostileLoad has clients of another host do their worst, all at once and to every node:
// connections that say nothing, that send a byte at a time, that begin messages and do not end
// them, that reset what they begin, that ask for records and do not read them; InitTransactions of one
// id without end, and of ids without end. The nodes stay below their bound of memory, and the
// good client's transactions are committed, each once. How much slower they are is logged.
func TestHostileLoad(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" { // there all of 127.0.0.0/8 are addresses of this host
		t.Skip("many connections, and Linux only")
	}
	pids := map[*cluster.Node]int{}
	w := ownCluster(t, cluster.Config{
		Coordinators: 1, Partitions: 1, Started: func(n *cluster.Node, pid int) { pids[n] = pid },
		Env: []string{
			"ONCELOG_MAX_INFLIGHT_BYTES=" + strconv.Itoa(hostileInflight), "ONCELOG_MAX_CONNECTIONS_PER_ADDRESS=" + strconv.Itoa(hostileConns),
			"ONCELOG_RECEIVE_TIMEOUT=2s", "ONCELOG_SEND_TIMEOUT=2s", "ONCELOG_MAX_CALLS=5000",
			"ONCELOG_MAX_TRANSACTIONAL_IDS_PER_PRINCIPAL=" + strconv.Itoa(hostileIDs), "ONCELOG_MAX_INITS_PER_SECOND_PER_ID=2",
		},
	})
	ctx := withPatience(t)
	c, err := client.Dial(ctx, w.Servers())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	topic := "hostile"
	if _, err := c.Admin().CreateTopic(ctx, &oncelogv1.CreateTopicRequest{Name: topic, Partitions: 4}); err != nil {
		t.Fatal(err)
	}
	p, err := c.InitTransactions(ctx, "good")
	if err != nil {
		t.Fatal(err)
	}
	unread(ctx, t, c, p)
	good := func(from int) []time.Duration {
		var took []time.Duration
		for i := range hostileTransactions {
			began := time.Now()
			err := p.Transact(ctx, func(tx *client.Tx) error {
				return tx.Send(ctx, &client.Record{Topic: topic, Value: []byte(strconv.Itoa(from + i))})
			})
			if err != nil {
				t.Fatalf("transaction %d of the good client: %v", from+i, err)
			}
			took = append(took, time.Since(began))
		}
		return took
	}
	quiet := good(0)
	before := map[*cluster.Node]int{}
	for n, pid := range pids {
		before[n] = peakMemory(t, pid)
	}
	bad := startHostile(t, w)
	bad.established(ctx)
	busy := good(hostileTransactions)
	eventually(t, "each kind of load has done enough", bad.enough) // a fast machine is through with the good ones at once
	bad.end()

	for n, pid := range pids {
		grown := peakMemory(t, pid) - before[n]
		t.Logf("%s: %d MiB before, at most %d MiB more meanwhile (bound %d MiB)", n, before[n]>>20, grown>>20, hostileMemory>>20)
		if grown > hostileMemory {
			t.Errorf("%s has taken %d MiB more, above its bound of %d MiB", n, grown>>20, hostileMemory>>20)
		}
	}
	t.Logf("the good client's p99: %v before, %v meanwhile, %.1f times; %s", p99(quiet), p99(busy),
		float64(p99(busy))/float64(p99(quiet)), bad.summary())
	seen := map[string]int{}
	for _, r := range w.visible(t, topic, oncelogv1.IsolationLevel_ISOLATION_LEVEL_READ_COMMITTED) {
		seen[string(r.GetRecord().GetValue())]++
	}
	for i := range 2 * hostileTransactions {
		if seen[strconv.Itoa(i)] != 1 {
			t.Errorf("record %d is there %d times", i, seen[strconv.Itoa(i)])
		}
	}
	bad.check()
}

// unreadTopic is what clients ask for who do not read.
const unreadTopic = "unread"

// unread writes a topic of which each answer is as large as one may be.
func unread(ctx context.Context, t *testing.T, c *client.Client, p *client.Producer) {
	t.Helper()
	if _, err := c.Admin().CreateTopic(ctx, &oncelogv1.CreateTopicRequest{Name: unreadTopic, Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	value := make([]byte, 512<<10)
	rand.NewChaCha8([32]byte{}).Read(value) // not compressible
	if err := p.Transact(ctx, func(tx *client.Tx) error {
		for range 4 {
			if err := tx.Send(ctx, &client.Record{Topic: unreadTopic, Value: value}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func p99(d []time.Duration) time.Duration {
	d = slices.Clone(d)
	slices.Sort(d)
	return d[len(d)*99/100]
}

// peakMemory is the most resident memory that a process has had, in bytes.
func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "VmHWM:" {
			kib, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("the system tells no VmHWM")
	return 0
}

// hostile are the clients that do their worst.
type hostile struct {
	t      *testing.T
	w      *world
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	begun  sync.WaitGroup // of each kind, once it is at work

	dialled, fetches, cut, reset, parts, bytes, inits, ids, overQuota atomic.Int64
}

func startHostile(t *testing.T, w *world) *hostile {
	h := &hostile{t: t, w: w}
	h.ctx, h.cancel = context.WithCancel(t.Context())
	t.Cleanup(h.end)
	host := 10
	for _, n := range w.Nodes() {
		method := "/oncelog.v1.LogService/"
		if n.Role == cluster.Coordinator {
			method = "/oncelog.v1.TransactionService/"
		}
		stream, unary := method+"AppendStream", method+"Append"
		if n.Role == cluster.Coordinator {
			stream, unary = method+"EndTransaction", method+"EndTransaction"
		}
		for _, kind := range []func(address string, host int){
			h.sayNothing,
			func(a string, host int) { h.trickle(a, host, unary) },
			func(a string, host int) { h.neverEnd(a, host, stream) },
			func(a string, host int) { h.neverEnd(a, host, unary) },
			func(a string, host int) { h.resets(a, host, unary) },
		} {
			host++
			from := host // of every kind: what one may not have, the others may
			h.start(func() { kind(n.Client, from) })
		}
		if n.Role == cluster.Partition {
			host++
			from := host
			h.start(func() { h.neverRead(n.Client, from) })
		}
	}
	lead := w.Node(cluster.Coordinator, 1).Client
	for range 4 {
		h.start(func() { h.initStorm(lead, 50, func(int) string { return "storm" }, &h.inits) })
		h.start(func() { h.initStorm(lead, 51, func(i int) string { return fmt.Sprint("endless-", i) }, &h.ids) })
	}
	return h
}

func (h *hostile) start(f func()) {
	h.begun.Add(1)
	h.tasks.Go(f)
}

// established waits until all are at work.
func (h *hostile) established(ctx context.Context) {
	done := make(chan struct{})
	go func() { h.begun.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		h.t.Fatalf("not all of the hostile load has begun: %s", h.summary())
	}
}

func (h *hostile) end() {
	h.cancel()
	h.tasks.Wait()
}

func (h *hostile) summary() string {
	return fmt.Sprintf("%d connections of others, %d fetches not read and %d of their connections closed, %d streams begun and left, %d reset, %d MiB of messages without an end, %d inits of one id, %d of others, %d beyond a quota",
		h.dialled.Load(), h.fetches.Load(), h.cut.Load(), h.parts.Load(), h.reset.Load(), h.bytes.Load()>>20, h.inits.Load(), h.ids.Load(), h.overQuota.Load())
}

// enough is an error until each kind has done what the limits are there for.
func (h *hostile) enough() error {
	if h.bytes.Load() < 2*hostileInflight || h.cut.Load() < 2 || h.reset.Load() == 0 || h.overQuota.Load() == 0 {
		return errors.New(h.summary())
	}
	return nil
}

// check sees that quotas held.
func (h *hostile) check() {
	if n := h.ids.Load(); n > hostileIDs {
		h.t.Errorf("%d ids were made, beyond the quota of %d", n, hostileIDs)
	}
}

// pause leaves the machine to the others for a moment: what is tested is what the nodes hold,
// and not who gets the processor. False: it is over.
func (h *hostile) pause() bool {
	t := time.NewTimer(hostilePace)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-h.ctx.Done():
		return false
	}
}

// dial connects from an address that other kinds and the good client do not have.
func (h *hostile) dial(address string, host int) net.Conn {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(host))}}
	conn, err := d.DialContext(h.ctx, "tcp", address)
	if err != nil {
		return nil
	}
	h.dialled.Add(1)
	context.AfterFunc(h.ctx, func() { _ = conn.Close() })
	return conn
}

// once is called when a kind is at work.
func (h *hostile) once() func() { return sync.OnceFunc(h.begun.Done) }

// sayNothing opens connections, more than one host may, and leaves them half open.
func (h *hostile) sayNothing(address string, host int) {
	working := h.once()
	defer working()
	for i := range 2 * hostileConns {
		if conn := h.dial(address, host); conn != nil && i%2 == 0 {
			_, _ = conn.Write([]byte(http2.ClientPreface[:i%len(http2.ClientPreface)]))
		}
	}
	working()
	<-h.ctx.Done()
}

// framed is a connection of HTTP/2 that is used frame by frame.
type framed struct {
	net.Conn
	*http2.Framer
	block bytes.Buffer
	next  uint32
	gone  chan struct{} // closed when the server, or the client, has closed the connection
}

func (h *hostile) framed(address string, host int) *framed {
	conn := h.dial(address, host)
	if conn == nil {
		return nil
	}
	f := &framed{Conn: conn, Framer: http2.NewFramer(conn, nil), next: 1, gone: make(chan struct{})}
	go func() {
		defer close(f.gone) // what is not read fills the server's buffers, which is another kind
		buffer := make([]byte, 4096)
		for {
			if _, err := conn.Read(buffer); err != nil {
				return
			}
		}
	}()
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil || f.WriteSettings() != nil {
		return nil
	}
	return f
}

// begin opens a stream whose message is to have 15 MiB.
func (f *framed) begin(method string) (stream uint32, err error) {
	if stream, err = f.open(method); err != nil {
		return 0, err
	}
	return stream, f.WriteData(stream, false, []byte{0, 0, 0xf0, 0, 0})
}

// open opens a stream, and sends nothing on it.
func (f *framed) open(method string) (stream uint32, err error) {
	stream, f.next = f.next, f.next+2
	f.block.Reset()
	e := hpack.NewEncoder(&f.block)
	for _, h := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", method}, {":authority", "x"}, {"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		if err := e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1], Sensitive: true}); err != nil {
			return 0, err
		}
	}
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.block.Bytes(), EndHeaders: true}); err != nil {
		return 0, err
	}
	return stream, nil
}

// trickle sends bytes one at a time, on many streams.
func (h *hostile) trickle(address string, host int, method string) {
	working := h.once()
	defer working()
	for h.ctx.Err() == nil {
		f := h.framed(address, host)
		if f == nil {
			h.pause()
			continue
		}
		var streams []uint32
		for range 200 {
			if s, err := f.begin(method); err == nil {
				streams = append(streams, s)
				h.parts.Add(1)
			}
		}
		working()
		if len(streams) == 0 {
			continue
		}
		pace := time.NewTicker(hostilePace)
		for i := 0; h.ctx.Err() == nil && f.WriteData(streams[i%len(streams)], false, []byte{1}) == nil; i++ {
			<-pace.C
		}
		pace.Stop()
	}
}

// neverEnd sends as much as it may of messages that it does not end.
func (h *hostile) neverEnd(address string, host int, method string) {
	working := h.once()
	defer working()
	piece := make([]byte, 16<<10)
	var flows sync.WaitGroup
	for range 4 {
		flows.Go(func() {
			for h.ctx.Err() == nil {
				f := h.framed(address, host)
				if f == nil {
					h.pause()
					continue
				}
				// The windows are 4 MiB of a stream and 16 MiB of a connection: no more than 1 MiB
				// of a stream, so that no window is waited for.
				for f.next < 400 && h.ctx.Err() == nil {
					s, err := f.begin(method)
					for i := 0; i < 64 && err == nil && (i%8 > 0 || h.pause()); i++ {
						if err = f.WriteData(s, false, piece); err == nil {
							h.bytes.Add(int64(len(piece)))
						}
					}
					h.parts.Add(1)
					if err != nil {
						break
					}
				}
				working()
				_ = f.Close()
			}
		})
	}
	flows.Wait()
}

// neverRead asks for records on many streams and grants no more than the first window of
// each, until the node closes the connection.
func (h *hostile) neverRead(address string, host int) {
	working := h.once()
	defer working()
	request, err := proto.Marshal(&oncelogv1.FetchRequest{
		Partition: partition(unreadTopic, 0), Start: oncelogv1.StartPosition_START_POSITION_EARLIEST, Follow: true,
		Format: oncelogv1.FetchFormat_FETCH_FORMAT_BATCHES, MaxResponseBytes: 1 << 20,
	})
	if err != nil {
		h.t.Error(err)
		return
	}
	message := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(request)))
	message = append(message, request...)
	for h.ctx.Err() == nil && h.pause() {
		f := h.framed(address, host)
		if f == nil {
			continue
		}
		for range 200 {
			s, err := f.open("/oncelog.v1.LogService/Fetch")
			if err != nil || f.WriteData(s, true, message) != nil {
				break
			}
			h.fetches.Add(1)
		}
		working()
		<-f.gone // also at the end of the context
		if h.ctx.Err() == nil {
			h.cut.Add(1)
		}
	}
}

// resets begins streams and resets them (CVE-2023-44487).
func (h *hostile) resets(address string, host int, method string) {
	working := h.once()
	defer working()
	for h.ctx.Err() == nil {
		f := h.framed(address, host)
		if f == nil {
			h.pause()
			continue
		}
		for n := 0; h.ctx.Err() == nil && (n%100 > 0 || h.pause()); n++ {
			s, err := f.begin(method)
			if err == nil {
				err = f.WriteRSTStream(s, http2.ErrCodeCancel)
			}
			if err != nil {
				break
			}
			h.reset.Add(1)
			working()
		}
		_ = f.Close()
	}
}

// initStorm calls InitTransactions as fast as it can.
func (h *hostile) initStorm(address string, host int, id func(i int) string, done *atomic.Int64) {
	working := h.once()
	defer working()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			if c := h.dial(address, host); c != nil {
				return c, nil
			}
			return nil, errors.New("refused")
		}))
	if err != nil {
		h.t.Error(err)
		return
	}
	defer func() { _ = conn.Close() }()
	txns := oncelogv1.NewTransactionServiceClient(conn)
	for i := int(endless.Add(1_000_000)); h.ctx.Err() == nil && (i%20 > 0 || h.pause()); i++ {
		_, err := txns.InitProducer(h.ctx, &oncelogv1.InitProducerRequest{TransactionalId: id(i), NoWait: true})
		switch apierrors.CodeOf(err) {
		case oncelogv1.ErrorCode_ERROR_CODE_UNSPECIFIED:
			done.Add(1)
		case oncelogv1.ErrorCode_ERROR_CODE_QUOTA_EXCEEDED:
			h.overQuota.Add(1)
			working()
		}
	}
}

// endless gives every storm ids of its own.
var endless atomic.Int64
