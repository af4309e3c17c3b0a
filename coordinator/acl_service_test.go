package coordinator

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/api/acl"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/access"
)

func topicRule(who, topic string) acl.Rule {
	return acl.Rule{Principal: who, Kind: acl.Topic, Pattern: acl.Literal, Name: topic, Operation: acl.Read, Permission: acl.Allow}
}

func TestRulesAreKeptListedAndRemoved(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		m := c.leader()
		rules := []acl.Rule{topicRule("alice", "a"), topicRule("alice", "b"), topicRule("bob", "a"), topicRule("carol", "a")}
		list := func(f *oncelogv1.AclFilter, size uint32) (out []acl.Rule, pages int) {
			for token := ""; pages == 0 || token != ""; pages++ {
				res, err := m.acls().ListAcls(c.ctx(), &oncelogv1.ListAclsRequest{Filter: f, PageSize: size, PageToken: token})
				if err != nil {
					t.Fatal(err)
				}
				out, token = append(out, access.RulesOf(res.GetRules())...), res.GetNextPageToken()
			}
			return out, pages
		}
		// What a rule leaves open is literal, and allowed.
		bare := access.RulesProto([]acl.Rule{rules[3], rules[1], rules[0], rules[2]})
		for _, r := range bare {
			r.Pattern, r.Permission = 0, 0
		}
		if _, err := m.acls().AddAcls(c.ctx(), &oncelogv1.AddAclsRequest{Rules: bare}); err != nil {
			t.Fatal(err)
		}
		if got, pages := list(nil, 2); !slices.Equal(got, rules) || pages != 2 {
			t.Errorf("%v on %d pages", got, pages)
		}
		if got, pages := list(&oncelogv1.AclFilter{Name: "a"}, 2); !slices.Equal(got, []acl.Rule{rules[0], rules[2], rules[3]}) || pages != 2 {
			t.Errorf("%v on %d pages", got, pages)
		}
		if got, _ := list(&oncelogv1.AclFilter{Permission: oncelogv1.AclPermission_ACL_PERMISSION_DENY}, 0); len(got) != 0 {
			t.Error(got)
		}
		for range 2 { // the second time they are gone
			res, err := m.acls().RemoveAcls(c.ctx(), &oncelogv1.RemoveAclsRequest{Filter: &oncelogv1.AclFilter{Principal: "alice"}})
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := list(nil, 0); !slices.Equal(got, rules[2:]) || res.GetMore() {
				t.Error(got, res)
			}
		}
		if res, err := m.acls().RemoveAcls(c.ctx(), &oncelogv1.RemoveAclsRequest{All: true}); err != nil || len(res.GetRules()) != 2 {
			t.Error(res, err)
		}
		m.check(t)
	})
}

// TestHeartbeatsBringRules: once each, and that there are none as well.
func TestHeartbeatsBringRules(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		m := c.leader()
		beat := func(known *uint64) *oncelogv1.AclTable {
			t.Helper()
			res, err := m.cluster().Heartbeat(c.ctx(), &oncelogv1.HeartbeatRequest{NodeId: 1, InstanceId: instance(1), KnownAclsVersion: known})
			if err != nil {
				t.Fatal(err)
			}
			return res.GetAcls()
		}
		if got := beat(nil); got == nil || got.GetVersion() != 0 || len(got.GetRules()) != 0 {
			t.Errorf("before there are rules: %v", got)
		}
		if got := beat(proto.Uint64(0)); got != nil {
			t.Errorf("again: %v", got)
		}
		if _, err := m.acls().AddAcls(c.ctx(), &oncelogv1.AddAclsRequest{Rules: access.RulesProto([]acl.Rule{topicRule("alice", "a")})}); err != nil {
			t.Fatal(err)
		}
		got := beat(proto.Uint64(0))
		if len(got.GetRules()) != 1 || got.GetVersion() == 0 {
			t.Fatalf("%v", got)
		}
		if again := beat(&got.Version); again != nil {
			t.Errorf("again: %v", again)
		}
	})
}
