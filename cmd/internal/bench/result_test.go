package bench

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 2, 100}, 3},
	} {
		before := slices.Clone(c.values)
		if got := median(c.values); got != c.want || !slices.Equal(before, c.values) {
			t.Errorf("median of %v is %v, got %v; now %v", before, c.want, got, c.values)
		}
	}
}

func TestFigure(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0", 0.004: "0.00", 0.123: "0.12", 9.876: "9.88", 12.34: "12.3", 123.4: "123", 45678.9: "45679", -3.14159: "-3.14",
	} {
		if got := figure(v); got != want {
			t.Errorf("%v: got %s, want %s", v, got, want)
		}
	}
}

// sample is a result of three rounds in which the n-th round is n times the
// first.
func sample() *Result {
	all := slices.DeleteFunc(workloads(16), func(w workload) bool { return w.name == "many" })
	r := newResult(Config{Duration: time.Second, Producers: 16, Partitions: 6}, all)
	r.Machine = Machine{CPU: "a CPU", CPUs: 2, OS: "linux", Arch: "amd64", Go: "go1"}
	for i, w := range all {
		for n := 1; n <= 3; n++ {
			m := &measurement{units: 1000 * n, transactions: 100 * n, bytes: n << 20, took: time.Second}
			if w.name == "bulk" {
				m.units *= 2
			}
			m.latency.Record(time.Duration(n) * time.Millisecond)
			m.second.Record(time.Duration(n) * time.Microsecond)
			work := float64(100 * n * n)
			c := Cost{Work{work, 2 * work, 3 * work, 4 * work}, Work{5 * work, 6 * work, 7 * work, 8 * work}}
			r.Workloads[i].Rounds = append(r.Workloads[i].Rounds, newRound(&all[i], m, c))
		}
	}
	r.Idle = Cost{Coordinators: Work{Messages: 40}, Partitions: Work{Messages: 120}}
	r.summarise()
	return r
}

func TestSummary(t *testing.T) {
	t.Parallel()
	r := sample()
	if r.TransactionsToIdempotent != 0.5 {
		t.Errorf("ratio %v", r.TransactionsToIdempotent)
	}
	for _, w := range r.Workloads {
		times := 1.0
		if w.Name == "bulk" {
			times = 2
		}
		if w.Min.Throughput != 1000*times || w.Median.Throughput != 2000*times || w.Max.Throughput != 3000*times {
			t.Errorf("%s: throughput %v", w.Name, []float64{w.Min.Throughput, w.Median.Throughput, w.Max.Throughput})
		}
		if w.Median.Times.P50 < 2000 || w.Median.Times.P50 > 2032 {
			t.Errorf("%s: p50 %v", w.Name, w.Median.Times.P50)
		}
		// 100 n² of work for 100 n transactions, or 2 n thousand records.
		want := Cost{Work{2, 4, 6, 8}, Work{10, 12, 14, 16}}
		if w.Name == "bulk" {
			want = want.per(1.0 / 50)
		}
		if w.Median.Cost != want {
			t.Errorf("%s: cost %v, want %v", w.Name, w.Median.Cost, want)
		}
		if (w.Median.Second != nil) != (w.Name == "end-to-end") {
			t.Errorf("%s: second times %v", w.Name, w.Median.Second)
		}
	}
}

func TestWriting(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := sample().Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"a CPU, 2 CPUs, linux/amd64, go1; the cluster was started; medians of 3 rounds of 1s",
		"one-record transactions, 1 producer  2000 (1000-3000) transactions  2.00",
		"2.00 (1.00-3.00)",
		"reach 50 % of the throughput without transactions",
		"1 KiB records, idempotent only       1000 records",
		"nothing                              second",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	for line := range strings.Lines(out.String()) {
		if strings.Contains(line, "NaN") || strings.Contains(line, "Inf") {
			t.Errorf("a figure that is none: %s", line)
		}
	}
	text, err := json.Marshal(sample())
	if err != nil {
		t.Fatal(err)
	}
	var back Result
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if again, _ := json.Marshal(back); !bytes.Equal(again, text) {
		t.Errorf("JSON does not survive a round trip:\n%s\n%s", text, again)
	}
	if !strings.Contains(string(text), `"p99_9_us"`) || !strings.Contains(string(text), `"raft_entries"`) {
		t.Errorf("JSON lacks names: %s", text)
	}
}

// TestNothingMeasured: a run that did not finish anything prints no nonsense.
func TestNothingMeasured(t *testing.T) {
	t.Parallel()
	w := workloads(1)[0]
	if r := newRound(&w, &measurement{}, Cost{Coordinators: Work{Fsyncs: 3}}); r.Throughput != 0 || r.Cost != (Cost{}) {
		t.Errorf("got %+v", r)
	}
	if got := combine(nil, median); got.Throughput != 0 {
		t.Errorf("of no rounds: %+v", got)
	}
}
