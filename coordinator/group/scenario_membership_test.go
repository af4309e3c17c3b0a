package group_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cockroachdb/datadriven"

	"github.com/oncelog/oncelog/coordinator/group"
)

// subscribe joins, or changes what a member asks for.
func (s *scenario) subscribe(d *datadriven.TestData) (string, error) {
	if len(d.CmdArgs) < 2 {
		return "", errors.New("subscribe GROUP MEMBER")
	}
	c := group.Subscribe{
		At: s.at, Group: d.CmdArgs[0].Key, Member: d.CmdArgs[1].Key, ClientID: "client", Host: "host",
		Instance: strings.Join(values(d, "instance"), ""), Topics: values(d, "topics"),
		SessionTimeout: 10_000, RebalanceTimeout: 60_000, Assignor: group.AssignorSticky,
	}
	if d.HasArg("range") {
		c.Assignor = group.AssignorRange
	}
	res, err := s.apply(c)
	if err != nil || !res.OK() {
		return answer(res), err
	}
	s.given[c.Group+"/"+c.Member] = res.Generation
	return s.standing(c.Group), nil
}

// release is a member's word that it has let go, with the generation that it
// was given last, or that it is said to know.
func (s *scenario) release(d *datadriven.TestData) (string, error) {
	if len(d.CmdArgs) < 2 {
		return "", errors.New("release GROUP MEMBER")
	}
	c := group.ReleasePartitions{At: s.at, Group: d.CmdArgs[0].Key, Member: d.CmdArgs[1].Key}
	var err error
	if c.Partitions, err = ids(d, "partitions"); err != nil {
		return "", err
	}
	if c.Generation, err = number(d, "generation", s.m.Generation(c.Group)); err != nil {
		return "", err
	}
	res, err := s.apply(c)
	if err != nil || !res.Changed {
		return answer(res), err
	}
	return s.standing(c.Group), nil
}

// lose removes a member whose session or rebalance timeout has passed.
func (s *scenario) lose(d *datadriven.TestData) (string, error) {
	if len(d.CmdArgs) < 2 {
		return "", errors.New("lose GROUP MEMBER")
	}
	lost := group.LostMember{Group: d.CmdArgs[0].Key, Member: d.CmdArgs[1].Key}
	if mm, ok := s.m.Member(lost.Group, lost.Member); ok {
		lost.Joined = mm.Joined
	}
	res, err := s.apply(group.ExpireMembers{At: s.at, Members: []group.LostMember{lost}})
	if err != nil || !res.Changed {
		return answer(res), err
	}
	return s.standing(lost.Group), nil
}

// heartbeat gives a member the present generation.
func (s *scenario) heartbeat(d *datadriven.TestData) (string, error) {
	if len(d.CmdArgs) < 2 {
		return "", errors.New("heartbeat GROUP MEMBER")
	}
	id, member := d.CmdArgs[0].Key, d.CmdArgs[1].Key
	if _, ok := s.m.Member(id, member); !ok {
		return "not a member", nil
	}
	s.given[id+"/"+member] = s.m.Generation(id)
	return fmt.Sprintf("generation %d", s.m.Generation(id)), nil
}

// create makes partitions that did not exist.
func (s *scenario) create(d *datadriven.TestData) (string, error) {
	more, err := ids(d, "partitions")
	if err != nil {
		return "", err
	}
	s.exist = append(s.exist, more...)
	res, err := s.apply(group.TopicsChanged{At: s.at, Topics: values(d, "topics")})
	return answer(res), err
}

// standing is everybody's share in words.
func (s *scenario) standing(id string) string {
	about, _ := s.m.Describe(id)
	out := fmt.Sprintf("generation %d\n", about.Generation)
	for _, m := range about.Members {
		kept := slices.DeleteFunc(slices.Clone(m.Partitions), func(p uint64) bool { return slices.Contains(m.Revoking, p) })
		out += fmt.Sprintf("%s has %d", m.ID, kept)
		if len(m.Revoking) > 0 {
			out += fmt.Sprintf(" and is to let go %d", m.Revoking)
		}
		out += "\n"
	}
	return out
}
