package streams_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/clienttest"
	"github.com/oncelog/oncelog/client/streams"
)

// BenchmarkWordCount counts the words of b.N lines with one worker, through a
// repartition topic, on a cluster in memory.
func BenchmarkWordCount(b *testing.B) {
	const wordsPerLine = 20
	cluster := clienttest.Start(b)
	cluster.CreateTopic("lines", 3)
	cluster.CreateTopic("counts", 3)
	ctx, stop := context.WithCancel(b.Context())
	p, err := cluster.Client().IdempotentProducer(ctx)
	check(err)
	line := strings.Repeat("the quick brown fox ", wordsPerLine/4)
	for i := range b.N {
		check(p.Send(ctx, (&client.Record{Topic: "lines", Value: []byte(line)}).WithPartition(int32(i%3))))
	}
	check(p.Flush(ctx))
	app, err := streams.NewApp(cluster.Host("worker").Client(), wordCount())
	check(err)
	ended := make(chan error, 1)
	b.ResetTimer()
	go func() { ended <- app.Run(ctx) }()
	for app.Stats().Records < int64(b.N)*(1+wordsPerLine) {
		<-time.After(time.Millisecond)
	}
	b.ReportMetric(float64(app.Stats().Records)/b.Elapsed().Seconds(), "records/s")
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		b.Error(err)
	}
}
