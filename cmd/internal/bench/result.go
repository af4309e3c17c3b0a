package bench

import (
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Result is what a benchmark found. Its JSON form is for comparing runs.
type Result struct {
	// Machine is where the benchmark ran, and as a rule the cluster, too.
	Machine Machine `json:"machine"`
	// Cluster is "started" or "given".
	Cluster    string  `json:"cluster"`
	Duration   float64 `json:"duration_seconds"`
	Producers  int     `json:"producers"`
	Partitions int     `json:"partitions"`
	// Idle is what the cluster does per second without work: heartbeats.
	Idle Cost `json:"idle_per_second"`
	// Workloads are in the order in which they took turns.
	Workloads []Workload `json:"workloads"`
	// TransactionsToIdempotent is the throughput of large records in transactions
	// divided by that without; medians. 0: not both were measured.
	TransactionsToIdempotent float64 `json:"transactions_to_idempotent,omitempty"`
}

// Machine describes a machine.
type Machine struct {
	CPU  string `json:"cpu"`
	CPUs int    `json:"cpus"`
	OS   string `json:"os"`
	Arch string `json:"arch"`
	Go   string `json:"go"`
}

// Workload is the result of one workload.
type Workload struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	// Unit is what throughput counts: transactions or records.
	Unit string `json:"unit"`
	// CostPer says what Cost is divided by: transactions, or thousands of records.
	CostPer string `json:"cost_per"`
	// Latency and SecondLatency say what is timed; empty: nothing is.
	Latency       string  `json:"latency,omitempty"`
	SecondLatency string  `json:"second_latency,omitempty"`
	Rounds        []Round `json:"rounds"`
	// Median, Min and Max are taken figure by figure over the rounds.
	Median Round `json:"median"`
	Min    Round `json:"min"`
	Max    Round `json:"max"`
}

// Round is one round of a workload.
type Round struct {
	// Throughput is in units per second, Bytes in bytes of values per second.
	Throughput float64 `json:"throughput"`
	Bytes      float64 `json:"bytes_per_second"`
	// Times are of one transaction.
	Times Times `json:"times"`
	// Second are times of the same transactions, measured otherwise.
	Second *Times `json:"second_times,omitempty"`
	// Cost is per Workload.CostPer.
	Cost Cost `json:"cost"`
}

// Times are percentiles, in microseconds.
type Times struct {
	P50  float64 `json:"p50_us"`
	P99  float64 `json:"p99_us"`
	P999 float64 `json:"p99_9_us"`
	Max  float64 `json:"max_us"`
}

func newResult(cfg Config, all []workload) *Result {
	r := &Result{
		Machine: machine(), Cluster: "started",
		Duration: cfg.Duration.Seconds(), Producers: cfg.Producers, Partitions: cfg.Partitions,
	}
	if len(cfg.Servers) > 0 {
		r.Cluster = "given"
	}
	for _, w := range all {
		per := "transaction"
		if !w.transactional {
			per = strconv.Itoa(recordsPerUnit) + " records"
		}
		r.Workloads = append(r.Workloads, Workload{
			Name: w.name, Title: w.title, Unit: w.unit, CostPer: per, Latency: w.latency, SecondLatency: w.second,
		})
	}
	return r
}

// machine describes this machine, as far as it says.
func machine() Machine {
	m := Machine{CPUs: runtime.NumCPU(), OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version()}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m // not Linux
	}
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	return m
}

func newRound(w *workload, m *measurement, c Cost) Round {
	seconds := max(m.took.Seconds(), 1e-9)
	r := Round{
		Throughput: float64(m.units) / seconds, Bytes: float64(m.bytes) / seconds, Times: timesOf(&m.latency),
	}
	n := float64(m.transactions)
	if !w.transactional {
		n = float64(m.units) / recordsPerUnit
	}
	if n > 0 {
		r.Cost = c.per(n)
	}
	if w.second != "" {
		second := timesOf(&m.second)
		r.Second = &second
	}
	return r
}

func timesOf(h *Histogram) Times {
	us := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	return Times{us(h.Quantile(0.5)), us(h.Quantile(0.99)), us(h.Quantile(0.999)), us(h.Max())}
}

// figures returns every figure of a round, for calculating with all of them.
func (r *Round) figures() []*float64 {
	f := []*float64{&r.Throughput, &r.Bytes}
	times := []*Times{&r.Times}
	if r.Second != nil {
		times = append(times, r.Second)
	}
	for _, t := range times {
		f = append(f, &t.P50, &t.P99, &t.P999, &t.Max)
	}
	for _, w := range []*Work{&r.Cost.Coordinators, &r.Cost.Partitions} {
		f = append(f, &w.Fsyncs, &w.Entries, &w.Messages, &w.Commands)
	}
	return f
}

// summarise computes medians, minima and maxima over the rounds.
func (r *Result) summarise() {
	medians := map[string]float64{}
	for i := range r.Workloads {
		w := &r.Workloads[i]
		w.Median, w.Min, w.Max = combine(w.Rounds, median), combine(w.Rounds, slices.Min[[]float64]), combine(w.Rounds, slices.Max[[]float64])
		medians[w.Name] = w.Median.Throughput
	}
	if without := medians["bulk"]; without > 0 {
		r.TransactionsToIdempotent = medians["bulk-transactions"] / without
	}
}

// combine makes one round of many, figure by figure.
func combine(rounds []Round, f func([]float64) float64) Round {
	var out Round
	if len(rounds) == 0 {
		return out
	}
	if rounds[0].Second != nil {
		out.Second = &Times{}
	}
	for i, to := range out.figures() {
		var values []float64
		for j := range rounds {
			values = append(values, *rounds[j].figures()[i])
		}
		*to = f(values)
	}
	return out
}

// median returns the middle value, or the mean of the middle two.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// Write prints the result for people: medians, with the smallest and largest
// round in brackets.
func (r *Result) Write(w io.Writer) error {
	fmt.Fprintf(w, "%s, %d CPUs, %s/%s, %s; the cluster was %s; medians of %d rounds of %gs, (smallest-largest)\n\n",
		orElse(r.Machine.CPU, "unknown CPU"), r.Machine.CPUs, r.Machine.OS, r.Machine.Arch, r.Machine.Go, r.Cluster,
		len(r.Workloads[0].Rounds), r.Duration)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "WORKLOAD\tPER SECOND\tMIB/S\tTIME OF\tP50 MS\tP99 MS\tP99.9 MS")
	for i := range r.Workloads {
		l := &r.Workloads[i]
		fmt.Fprintf(tw, "%s\t%s %s\t%s\t%s\n", l.Title,
			spread(l.Median.Throughput, l.Min.Throughput, l.Max.Throughput), l.Unit, figure(l.Median.Bytes/(1<<20)),
			timesRow(l.Latency, &l.Median.Times, &l.Min.Times, &l.Max.Times))
		if l.SecondLatency != "" {
			fmt.Fprintf(tw, "\t\t\t%s\n", timesRow(l.SecondLatency, l.Median.Second, l.Min.Second, l.Max.Second))
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if r.TransactionsToIdempotent > 0 {
		fmt.Fprintf(w, "\n1 KiB records in 100 ms transactions reach %.0f %% of the throughput without transactions.\n", 100*r.TransactionsToIdempotent)
	}
	fmt.Fprintf(w, "\nCost, summed over the nodes of each kind: an entry that three nodes store counts three times.\n\n")
	fmt.Fprintln(tw, "\t\tCOORDINATORS\t\t\t\tPARTITION NODES\t\t\t\t")
	fmt.Fprintln(tw, "WORKLOAD\tPER\tFSYNCS\tENTRIES\tMESSAGES\tCOMMANDS\tFSYNCS\tENTRIES\tMESSAGES\tCOMMANDS")
	for i := range r.Workloads {
		l := &r.Workloads[i]
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", l.Title, l.CostPer, workRow(l.Median.Cost.Coordinators), workRow(l.Median.Cost.Partitions))
	}
	fmt.Fprintf(tw, "nothing\tsecond\t%s\t%s\n", workRow(r.Idle.Coordinators), workRow(r.Idle.Partitions))
	return tw.Flush()
}

func timesRow(what string, mid, low, high *Times) string {
	if what == "" {
		return "-\t-\t-\t-"
	}
	ms := func(mid, low, high float64) string { return spread(mid/1000, low/1000, high/1000) }
	return what + "\t" + ms(mid.P50, low.P50, high.P50) + "\t" + ms(mid.P99, low.P99, high.P99) + "\t" + ms(mid.P999, low.P999, high.P999)
}

func workRow(w Work) string {
	return figure(w.Fsyncs) + "\t" + figure(w.Entries) + "\t" + figure(w.Messages) + "\t" + figure(w.Commands)
}

// spread returns "median (smallest-largest)".
func spread(mid, low, high float64) string {
	return fmt.Sprintf("%s (%s-%s)", figure(mid), figure(low), figure(high))
}

// figure returns a number with three digits, or all before the point.
func figure(v float64) string {
	switch abs := math.Abs(v); {
	case abs == 0:
		return "0"
	case abs >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case abs >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
