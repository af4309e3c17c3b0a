package console

import (
	"context"
	"encoding/hex"
	"net/http"
	"net/url"
	"strconv"
	"unicode/utf8"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

// topicPartition names a partition as the client does.
func topicPartition(ref *oncelogv1.PartitionRef) client.TopicPartition {
	return client.TopicPartition{Topic: ref.GetTopic(), Partition: int32(ref.GetPartition())}
}

type topicsData struct {
	Topics []*oncelogv1.Topic
	Next   string
}

// topics lists topics.
func (h *Handler) topics(ctx context.Context, r *http.Request) (*view, error) {
	p := &params{values: r.URL.Query()}
	token := p.text("page", maxToken, false)
	if p.err != nil {
		return nil, p.err
	}
	resp, err := h.admin.ListTopics(ctx, pageLines, token)
	if err != nil {
		return nil, err
	}
	data := topicsData{Topics: resp.GetTopics()}
	if resp.GetNextPageToken() != "" {
		data.Next = "/topics?" + url.Values{"page": {resp.GetNextPageToken()}}.Encode()
	}
	req := &oncelogv1.ListTopicsRequest{PageSize: pageLines, PageToken: token}
	return &view{
		Title: "Topics", Section: "topics", Template: "topics", Data: data,
		Commands: commands{h.cli("topic", "list"), h.grpcurl(h.coordinatorAddress(ctx), "CatalogService/ListTopics", req)},
	}, nil
}

// topicData is one topic with the standing of its partitions.
type topicData struct {
	*oncelogv1.Topic
	Lines []partitionLine
}

type partitionLine struct {
	*oncelogv1.PartitionStatus
	// Hidden are the records that readers wait for.
	Hidden uint64
	// Blocker is who holds them back; nil: nobody, or it is not known.
	Blocker *oncelogv1.DescribeTransactionResponse
}

// topic shows partitions: where they start and end, and who blocks them.
func (h *Handler) topic(ctx context.Context, r *http.Request) (*view, error) {
	p := &params{values: r.URL.Query()}
	name := p.text("name", maxName, true)
	if p.err != nil {
		return nil, p.err
	}
	t, err := h.admin.DescribeTopic(ctx, name)
	if err != nil {
		return nil, err
	}
	standing, err := h.admin.DescribePartitions(ctx, name)
	if err != nil {
		return nil, err
	}
	data := topicData{Topic: t}
	known := map[uint64]*oncelogv1.DescribeTransactionResponse{}
	for _, s := range standing {
		line := partitionLine{PartitionStatus: s}
		if s.GetAppliedEnd() > s.GetStableEnd() {
			line.Hidden = s.GetAppliedEnd() - s.GetStableEnd()
		}
		if producer := s.GetBlockedBy().GetProducerId(); producer != 0 {
			who, asked := known[producer]
			if !asked {
				who, _ = h.admin.DescribeProducer(ctx, producer) // gone, perhaps: the number is shown all the same
				known[producer] = who
			}
			line.Blocker = who
		}
		data.Lines = append(data.Lines, line)
	}
	req := &oncelogv1.GetMetadataRequest{Topics: []string{name}}
	return &view{
		Title: "Topic " + output.Printable(name), Section: "topics", Template: "topic", Data: data,
		Commands: commands{
			h.cli("topic", "describe", "--", name) + "\n" + h.cli("txn", "blocking", "--", name),
			h.grpcurl(h.coordinatorAddress(ctx), "CatalogService/GetMetadata", req),
		},
	}, nil
}

// Bounds of what is shown of records.
const (
	shownBytes = 256     // of a key or value
	peekBytes  = 1 << 20 // of all that are fetched
)

// recordsData is a run of records.
type recordsData struct {
	Topic     string
	Partition uint64
	Count     uint64 // partitions of the topic
	Offset    uint64
	Limit     uint64
	Lines     []recordLine
	// Start, Stable and End are the partition's.
	Start, Stable, End uint64
	Next               string
	Moved              bool // the offset was below the start
}

type recordLine struct {
	*oncelogv1.FetchedRecord
	// Fate is what became of the transaction: see fates.
	Fate       string
	Key, Value shown
	Headers    int
}

// Fates of records.
const (
	fatePlain     = "no transaction"
	fateCommitted = "committed"
	fateAborted   = "aborted"
	fateOpen      = "open"
	fateWaiting   = "committed, not visible yet"
	fateUnknown   = "not known"
)

// shown is bytes for people.
type shown struct {
	Text string
	// Hex: it is no text. Cut: there are more bytes than are shown, Bytes in all.
	// Absent: there are none, which is not the same as 0 bytes.
	Hex, Cut, Absent bool
	Bytes            int
}

// show makes text, or hexadecimal digits, of bytes from anywhere.
func show(b []byte, absent bool) shown {
	s := shown{Bytes: len(b), Absent: absent}
	if len(b) > shownBytes {
		s.Cut = true
		b = b[:shownBytes]
		for len(b) > 0 && s.Cut && !utf8.Valid(b) && len(b) > shownBytes-utf8.UTFMax {
			b = b[:len(b)-1] // perhaps only the cut is within a character
		}
	}
	if !utf8.Valid(b) {
		s.Hex, s.Text = true, hex.EncodeToString(b)
		return s
	}
	s.Text = output.Printable(string(b))
	return s
}

// records shows the records of a partition, committed, aborted and open apart.
func (h *Handler) records(ctx context.Context, r *http.Request) (*view, error) {
	p := &params{values: r.URL.Query()}
	data := recordsData{
		Topic: p.text("topic", maxName, true), Partition: p.number("partition", 0, 9_999, 0),
		Offset: p.number("offset", 0, 1<<63, 0), Limit: p.number("limit", 1, maxRecords, defaultRecords),
	}
	if p.err != nil {
		return nil, p.err
	}
	standing, err := h.admin.DescribePartitions(ctx, data.Topic)
	if err != nil {
		return nil, err
	}
	data.Count = uint64(len(standing))
	if data.Partition >= data.Count {
		return nil, &paramError{"partition", "is " + strconv.FormatUint(data.Partition, 10) + ": the topic has " + strconv.FormatUint(data.Count, 10)}
	}
	st := standing[data.Partition]
	data.Start, data.Stable, data.End = st.GetStartOffset(), st.GetStableEnd(), st.GetAppliedEnd()
	if p.values.Get("offset") == "" {
		data.Offset = data.End - min(data.End-data.Start, data.Limit)
	}
	if data.Offset < data.Start {
		data.Offset, data.Moved = data.Start, true
	}
	if data.Offset > data.End {
		return nil, &paramError{"offset", "is " + strconv.FormatUint(data.Offset, 10) + ": the partition ends at " + strconv.FormatUint(data.End, 10)}
	}
	if data.Offset < data.End {
		if err := h.fillRecords(ctx, &data); err != nil {
			return nil, err
		}
	}
	req := &oncelogv1.FetchRequest{
		Partition: &oncelogv1.PartitionRef{Topic: data.Topic, Partition: uint32(data.Partition)}, Offset: data.Offset,
		Isolation: oncelogv1.IsolationLevel_ISOLATION_LEVEL_READ_UNCOMMITTED, MaxRecords: data.Limit,
	}
	return &view{
		Title: "Records of " + output.Printable(data.Topic), Section: "topics", Template: "records", Data: data,
		Commands: commands{
			h.cli("consume", "-p", strconv.FormatUint(data.Partition, 10), "--from", strconv.FormatUint(data.Offset, 10),
				"--max", strconv.FormatUint(data.Limit, 10), "--isolation=read_uncommitted", "--", data.Topic),
			h.grpcurl(h.shardAddress(ctx, data.Topic, data.Partition), "LogService/Fetch", req),
		},
	}, nil
}

// fillRecords fetches the records, and finds out what became of each.
func (h *Handler) fillRecords(ctx context.Context, data *recordsData) error {
	tp := client.TopicPartition{Topic: data.Topic, Partition: int32(data.Partition)}
	all, err := h.admin.PeekRecords(ctx, tp, data.Offset, client.ReadUncommitted, int(data.Limit), peekBytes)
	if err != nil {
		return err
	}
	committed := map[uint64]bool{}
	if data.Offset < data.Stable {
		visible, err := h.admin.PeekRecords(ctx, tp, data.Offset, client.ReadCommitted, int(data.Limit), peekBytes)
		if err != nil {
			return err
		}
		for _, rec := range visible.GetRecords() {
			committed[rec.GetOffset()] = true
		}
	}
	outcomes := map[string]string{}
	for _, rec := range all.GetRecords() {
		line := recordLine{
			FetchedRecord: rec, Headers: len(rec.GetRecord().GetHeaders()),
			Key: show(rec.GetRecord().GetKey(), rec.GetRecord().Key == nil), Value: show(rec.GetRecord().GetValue(), rec.GetRecord().Value == nil),
		}
		switch {
		case rec.GetTxn() == nil:
			line.Fate = fatePlain
		case committed[rec.GetOffset()]:
			line.Fate = fateCommitted
		case rec.GetOffset() < data.Stable:
			line.Fate = fateAborted
		default:
			line.Fate = h.fate(ctx, rec.GetTxn(), outcomes)
		}
		data.Lines = append(data.Lines, line)
	}
	if next := all.GetNextOffset(); next < data.End && len(data.Lines) > 0 {
		data.Next = recordsAddress(data, next)
	}
	return nil
}

func recordsAddress(data *recordsData, offset uint64) string {
	return "/records?" + url.Values{
		"topic": {data.Topic}, "partition": {strconv.FormatUint(data.Partition, 10)},
		"offset": {strconv.FormatUint(offset, 10)}, "limit": {strconv.FormatUint(data.Limit, 10)},
	}.Encode()
}

// fate is what became of a transaction whose records are beyond the stable end.
func (h *Handler) fate(ctx context.Context, txn *oncelogv1.TxnRef, known map[string]string) string {
	name := txnName(txn)
	if f, ok := known[name]; ok {
		return f
	}
	outcome, err := h.cfg.Client.Outcome(ctx, client.TxID{ProducerID: txn.GetProducerId(), Epoch: txn.GetEpoch(), Number: txn.GetTxnNumber()})
	f := fateUnknown
	switch {
	case err != nil:
	case outcome == client.OutcomeOpen:
		f = fateOpen
	case outcome == client.OutcomeCommitted:
		f = fateWaiting
	case outcome == client.OutcomeAborted:
		f = fateAborted
	}
	known[name] = f
	return f
}

// shardAddress is where a partition's leader is asked, for commands that are shown.
func (h *Handler) shardAddress(ctx context.Context, topic string, partition uint64) string {
	m, err := h.admin.Metadata(ctx, topic)
	if err != nil || len(m.GetTopics()) == 0 || partition >= uint64(len(m.GetTopics()[0].GetPartitions())) {
		return "ADDRESS"
	}
	shard := m.GetTopics()[0].GetPartitions()[partition].GetShardId()
	for _, s := range m.GetShards() {
		for _, n := range m.GetNodes() {
			if s.GetShardId() == shard && n.GetNodeId() == s.GetLeader() {
				return n.GetClientAddress()
			}
		}
	}
	return "ADDRESS"
}
