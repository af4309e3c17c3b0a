package scale

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// Result is what was found. Its JSON form is for comparing runs.
type Result struct {
	State *StateResult `json:"state,omitempty"`
	Log   *LogResult   `json:"log,omitempty"`
}

// Sizes is what a cluster holds.
type Sizes struct {
	IDs        int `json:"ids"`
	Open       int `json:"open_transactions"`
	Producers  int `json:"idle_producers"`
	Partitions int `json:"partitions"`
	// InitPerSecond is the rate at which its ids were made.
	InitPerSecond float64 `json:"init_producer_per_second"`
}

// Times are percentiles of the time of a commit, with its append, in milliseconds.
type Times struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

// Kill is what followed a kill -9 of the leading coordinator, in seconds.
type Kill struct {
	// Commit is from the kill to the answer of a commit that began after it, Restart
	// from the start of the killed node until it serves, CaughtUp until it has applied
	// what the others had committed then.
	Commit   float64 `json:"commit_seconds"`
	Restart  float64 `json:"restart_seconds"`
	CaughtUp float64 `json:"caught_up_seconds"`
}

// StateResult is what many ids, transactions, producers and partitions do.
type StateResult struct {
	Small Sizes `json:"small"`
	Large Sizes `json:"large"`
	// Commits of one producer, one record each, in the two clusters in turns. Ratios
	// are large to small of the medians of each round.
	SmallCommits Times     `json:"small_commits"`
	LargeCommits Times     `json:"large_commits"`
	Ratios       []float64 `json:"p50_ratios"`
	SmallKills   []Kill    `json:"small_kills"`
	LargeKills   []Kill    `json:"large_kills"`
	// Live heap of one coordinator per idle id; of all three partition nodes together
	// per partition and per idle producer, which three replicas remember.
	BytesPerID        float64 `json:"bytes_per_id"`
	BytesPerPartition float64 `json:"bytes_per_partition"`
	BytesPerProducer  float64 `json:"bytes_per_producer"`
}

// LogResult is what a large log does, in seconds.
type LogResult struct {
	// LogBytes were written; DiskBytes is what one node takes on its disk then.
	LogBytes  int64 `json:"log_bytes"`
	DiskBytes int64 `json:"disk_bytes"`
	// Write is how long the writing took.
	Write float64 `json:"write_seconds"`
	// Serving is from the start of a killed node until it serves, Recovered until it
	// has caught up.
	Serving   float64 `json:"serving_seconds"`
	Recovered float64 `json:"recovered_seconds"`
	// Wiped is from the start of a node without a disk until it has and votes in all
	// its shards again.
	Wiped float64 `json:"wiped_seconds"`
}

// median returns the middle value, the upper of two.
func median[T any](values []T, of func(T) float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := make([]float64, len(values))
	for i, v := range values {
		sorted[i] = of(v)
	}
	slices.Sort(sorted)
	return sorted[len(sorted)/2]
}

func (k Kill) commit() float64   { return k.Commit }
func (k Kill) restart() float64  { return k.Restart }
func (k Kill) caughtUp() float64 { return k.CaughtUp }

// Write prints the result for people.
func (r *Result) Write(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if s := r.State; s != nil {
		fmt.Fprintln(tw, "\tSMALL\tLARGE")
		row := func(what, form string, small, large any) {
			fmt.Fprintf(tw, "%s\t"+form+"\t"+form+"\n", what, small, large)
		}
		row("transactional ids", "%d", s.Small.IDs, s.Large.IDs)
		row("open transactions", "%d", s.Small.Open, s.Large.Open)
		row("idle producers", "%d", s.Small.Producers, s.Large.Producers)
		row("partitions", "%d", s.Small.Partitions, s.Large.Partitions)
		row("InitProducer per second", "%.0f", s.Small.InitPerSecond, s.Large.InitPerSecond)
		row("p50 of a commit, ms", "%.2f", s.SmallCommits.P50, s.LargeCommits.P50)
		row("p99 of a commit, ms", "%.2f", s.SmallCommits.P99, s.LargeCommits.P99)
		row("longest commit, ms", "%.0f", s.SmallCommits.Max, s.LargeCommits.Max)
		row("kill of the leader to a commit, s", "%.2f", median(s.SmallKills, Kill.commit), median(s.LargeKills, Kill.commit))
		row("start of a coordinator to its service, s", "%.2f", median(s.SmallKills, Kill.restart), median(s.LargeKills, Kill.restart))
		row("start of a coordinator until it has caught up, s", "%.2f", median(s.SmallKills, Kill.caughtUp), median(s.LargeKills, Kill.caughtUp))
		fmt.Fprintf(tw, "p50 of a commit, large to small\t\t%.2f (%.2f to %.2f)\n", median(s.Ratios, same), slices.Min(s.Ratios), slices.Max(s.Ratios))
		fmt.Fprintf(tw, "bytes of a coordinator per idle id\t\t%.0f\n", s.BytesPerID)
		fmt.Fprintf(tw, "bytes of three partition nodes per partition\t\t%.0f\n", s.BytesPerPartition)
		fmt.Fprintf(tw, "bytes of three partition nodes per idle producer\t\t%.0f\n", s.BytesPerProducer)
	}
	if l := r.Log; l != nil {
		mib := func(b int64) float64 { return float64(b) / (1 << 20) }
		fmt.Fprintf(tw, "log, MiB\t\t%.0f\n", mib(l.LogBytes))
		fmt.Fprintf(tw, "on the disk of one node, MiB\t\t%.0f\n", mib(l.DiskBytes))
		fmt.Fprintf(tw, "written in, s\t\t%.1f\n", l.Write)
		fmt.Fprintf(tw, "start of a killed node to its service, s\t\t%.2f\n", l.Serving)
		fmt.Fprintf(tw, "start of a killed node until it has caught up, s\t\t%.2f\n", l.Recovered)
		fmt.Fprintf(tw, "start of a wiped node until it has everything, s\t\t%.1f (%.0f MiB/s)\n", l.Wiped, mib(l.LogBytes)/max(l.Wiped, 1e-9))
	}
	return tw.Flush()
}

func same(v float64) float64 { return v }
