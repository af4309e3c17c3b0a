package sim

import (
	"context"
	"log/slog"
	"strings"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// weather is what the network does to messages. It is drawn per seed.
type weather struct {
	Loss      float64       // of a message, or of the connection it travels on
	Duplicate float64       // of messages that stand alone, and of whole requests
	Delay     time.Duration // the longest of ordinary messages
	Late      float64       // share of messages that take up to LateBy
	LateBy    time.Duration
}

// calm is the weather in which everything must come right again.
var calm = weather{Delay: time.Millisecond, LateBy: time.Millisecond}

// Delays of a connection.
const (
	wire           = 50 * time.Microsecond // the fastest message
	retransmit     = 60 * time.Millisecond // until a message tries again where nothing gets through
	keepaliveLeast = time.Second           // until a silent connection is given up
	keepaliveSpan  = 9 * time.Second
)

// network carries messages between processes.
type network struct {
	w       *World
	weather weather
	hosts   map[string]*host
	cut     map[path]int // how many faults keep this direction shut
	calls   []*exchange  // under way, by age
	reach   Reach
	// marked is told of every answer to markers.
	marked func(request []byte, resp *oncelogv1.WriteMarkersResponse)
	log    *slog.Logger
	// elections is told of everything that Raft groups say.
	elections *elections
}

// path is one direction between two processes.
type path struct{ from, to uint64 }

func newNetwork(w *World, r Reach) *network {
	return &network{w: w, weather: calm, hosts: map[string]*host{}, cut: map[path]int{}, reach: r, marked: func([]byte, *oncelogv1.WriteMarkersResponse) {}, log: slog.New(slog.DiscardHandler), elections: newElections()}
}

func (n *network) blocked(from, to *Proc) bool { return n.cut[path{from.id, to.id}] > 0 }

// shut closes one direction; open undoes one shut.
func (n *network) shut(from, to *Proc) { n.cut[path{from.id, to.id}]++ }

func (n *network) open(from, to *Proc) {
	if p := (path{from.id, to.id}); n.cut[p] > 1 {
		n.cut[p]--
	} else {
		delete(n.cut, p)
	}
}

// chance is true with the given probability.
func (n *network) chance(p float64) bool { return p > 0 && n.w.net.Float64() < p }

// upTo draws a duration.
func (n *network) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(n.w.net.Int64N(int64(d)))
}

// delay draws how long a message takes.
func (n *network) delay() time.Duration {
	if n.chance(n.weather.Late) {
		n.reach.hit(lateMessage)
		return wire + n.upTo(n.weather.LateBy)
	}
	return wire + n.upTo(n.weather.Delay)
}

// datagram sends what may be lost, repeated and overtaken. arrive runs in the
// receiver, if it is alive then.
func (n *network) datagram(from, to *Proc, arrive func()) {
	if !from.alive || n.blocked(from, to) || n.chance(n.weather.Loss) {
		return
	}
	n.w.at(n.delay(), to, arrive)
	if n.chance(n.weather.Duplicate) {
		n.w.at(n.delay(), to, arrive)
	}
}

// reliable sends over a connection: the message arrives, or the connection is
// given up, which runs in the world. Order is the caller's affair.
func (n *network) reliable(from, to *Proc, d time.Duration, arrive, lost func()) {
	life := to.life
	var try func(since time.Duration)
	patience := keepaliveLeast + n.upTo(keepaliveSpan)
	try = func(since time.Duration) {
		switch {
		case to.life != life || !to.alive:
			lost()
		case n.blocked(from, to):
			if since == 0 {
				since = n.w.now
			}
			if n.w.now-since > patience {
				lost()
				return
			}
			n.w.at(retransmit, nil, func() { try(since) })
		default:
			n.w.at(0, to, arrive)
		}
	}
	n.w.at(d, nil, func() { try(0) })
}

// longestNote bounds what is logged of a message.
const longestNote = 300

// note logs what one process tells another, if anybody reads it.
func (n *network) note(what, from, to, method string, m any, err error) {
	if !n.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	text := ""
	if p, ok := m.(proto.Message); ok && err == nil {
		text = prototext.MarshalOptions{}.Format(p)
		text = text[:min(len(text), longestNote)]
	}
	args := []any{"node", from, "to", to, "method", method[strings.LastIndexByte(method, '/')+1:], "message", text}
	if err != nil {
		args = append(args, "error", err)
	}
	n.log.Debug(what, args...)
}
