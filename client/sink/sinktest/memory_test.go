package sinktest_test

import (
	"context"
	"testing"

	"github.com/oncelog/oncelog/client/sink"
	"github.com/oncelog/oncelog/client/sink/sinktest"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	sinktest.TestStore(t, func(_ *testing.T, h *sinktest.Handler) sinktest.Opened {
		m := sinktest.NewMemory()
		m.Before = func(_ context.Context, parts []sink.Part) error {
			for _, p := range parts {
				if len(p.Records) > 0 {
					return h.Then()
				}
			}
			return nil
		}
		return sinktest.Opened{Store: m, Rows: func(context.Context) ([]sinktest.Row, error) {
			var rows []sinktest.Row
			for _, r := range m.Taken() {
				rows = append(rows, sinktest.Row{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Value: string(r.Value)})
			}
			return rows, nil
		}}
	})
}
