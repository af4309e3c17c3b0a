package e2e

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// Real processes let records go by retention, also after all of them were killed,
// and say so to who comes too late.
func TestRetention(t *testing.T) {
	t.Parallel()
	w := ownCluster(t, cluster.Config{Wire: func(nodes []*cluster.Node) (map[*cluster.Node][]string, error) {
		env := map[*cluster.Node][]string{}
		for _, n := range nodes {
			if n.Role == cluster.Partition {
				env[n] = []string{"ONCELOG_RETENTION_CHECK_INTERVAL=200ms"}
			}
		}
		return env, nil
	}})
	c := w.client(t)
	ctx := withPatience(t)
	topic := unique(t, "short")
	if _, err := c.Admin().CreateTopic(ctx, &oncelogv1.CreateTopicRequest{
		Name: topic, Partitions: 1, Config: &oncelogv1.TopicConfig{RetentionBytes: proto.Int64(4000)},
	}); err != nil {
		t.Fatal(err)
	}
	p := producer(t, c, unique(t, "id"))
	const all = 300
	for i := range all {
		tx := begin(t, p)
		send(t, tx, topic, fmt.Sprintf("record %03d", i))
		commit(t, tx)
	}
	kept := func() (start uint64) {
		eventually(t, "retention lets most of it go", func() error {
			// What may be kept, and a sixteenth: nothing goes from there on.
			if st := w.status(t, topic, 0); st.GetStartOffset() < all/2 || st.GetStableEnd() != all || st.GetSizeBytes() > 4000*17/16 {
				return fmt.Errorf("it has %v", st)
			}
			return nil
		})
		return w.status(t, topic, 0).GetStartOffset()
	}
	start := kept()
	for _, n := range w.Nodes() {
		if n.Role == cluster.Partition {
			if err := n.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := n.Start(); err != nil {
				t.Fatal(err)
			}
		}
	}
	again := kept()
	if again < start {
		t.Errorf("the log starts at %d, and started at %d before everybody was killed", again, start)
	}
	var want []string
	for i := again; i < all; i++ {
		want = append(want, fmt.Sprintf("record %03d", i))
	}
	wantValues(t, "what is kept", w.readCommitted(t, w.client(t), topic), want...)

	strict, err := c.Consume(ctx, "", []string{topic}, client.WithoutReset())
	if err != nil {
		t.Fatal(err)
	}
	strict.Seek(client.Offsets{{Topic: topic}: 0})
	var e *client.Error
	if _, err := strict.Poll(ctx); !errors.As(err, &e) || e.Code != "OFFSET_OUT_OF_RANGE" || e.LogStart != int64(again) {
		t.Errorf("below the start: %v", err)
	}
}
