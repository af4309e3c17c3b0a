package history

import (
	"bytes"
	"fmt"
	"testing"
)

// large is a history of about so many records: transfers over ten partitions, a
// reader, and a flow.
func large(records int) *History {
	clock := int64(0)
	rec := NewRecorder(func() int64 { clock++; return clock })
	logs := make([]Log, 10)
	for i := range logs {
		logs[i].Partition = Partition{"bank", int32(i)}
	}
	const clients, perTransaction = 10, 10
	sessions := make([]*Session, clients)
	reader := rec.Session(100).Reader(ReadCommitted)
	at := make([]int64, len(logs))
	for n := range records / perTransaction {
		client := n % clients
		tid, number := fmt.Sprint("id", client), n/clients
		id := TxID{Producer: uint64(client) + 1, Epoch: uint32(number / 100), Number: uint64(number%100) + 1}
		if id.Number == 1 {
			sessions[client] = rec.Session(uint32(client))
			sessions[client].Init(tid).Done(id.Producer, id.Epoch, TxID{}, Unknown)
		}
		t := sessions[client].Begin(tid, id)
		for i := range perTransaction {
			log := &logs[(n*7+i)%len(logs)]
			v := t.Send(log.Partition, int64(1-i%2*2), Source{})
			log.Records = append(log.Records, LogRecord{Offset: log.End, TxID: id, Status: StatusVisible, Value: v})
			t.Acked(log.Partition, v, log.End)
			log.End++
			log.Stable++
		}
		t.Commit().Done(Committed, "")
		for i := range logs {
			if n%10 == i {
				var seen []Seen
				for _, r := range logs[i].Records[at[i]:] {
					seen = append(seen, Seen{r.Offset, r.Value})
				}
				reader.Read(logs[i].Partition, at[i], logs[i].End, seen)
				at[i] = logs[i].End
			}
		}
	}
	return &History{Rules: Rules{Banks: []string{"bank"}, Healed: true}, Events: rec.Events(), Audit: &Audit{Logs: logs}}
}

// BenchmarkCheck shows that the cost grows with the history, and no faster.
func BenchmarkCheck(b *testing.B) {
	for _, records := range []int{10_000, 100_000, 400_000} {
		b.Run(fmt.Sprint(records), func(b *testing.B) {
			h := large(records)
			b.ReportAllocs()
			for b.Loop() {
				if r := Check(h); r.Total != 0 || r.Stats.Visible != records {
					b.Fatal(r.Total, r.Violations[:min(3, len(r.Violations))], r.Stats)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(records), "ns/record")
		})
	}
}

func BenchmarkSaveLoad(b *testing.B) {
	h := large(10_000)
	for b.Loop() {
		var file bytes.Buffer
		if err := Save(&file, h); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(file.Len()))
		if _, err := Load(&file); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	rec := NewRecorder(func() int64 { return 0 })
	t := rec.Session(1).Begin("id", txA)
	for b.Loop() {
		t.Acked(bank0, t.Send(bank0, 0, Source{}), 0)
	}
}
