package catalog

import (
	"math"

	"github.com/oncelog/oncelog/api/acl"
	"github.com/oncelog/oncelog/api/codec"
)

// appendACLCommand is AppendCommand for what changes permissions.
func appendACLCommand(b []byte, cmd Command) []byte {
	switch c := cmd.(type) {
	case AddACLs:
		return appendRules(appendHead(b, kindAddACLs, c.At), c.Rules)
	case RemoveACLs:
		return appendRules(appendHead(b, kindRemoveACLs, c.At), c.Rules)
	default:
		return b
	}
}

func appendRules(b []byte, rules []acl.Rule) []byte {
	b = codec.AppendUvarint(b, uint64(len(rules)))
	for _, r := range rules {
		b = codec.AppendString(b, r.Principal)
		b = append(b, byte(r.Kind), byte(r.Pattern))
		b = codec.AppendString(b, r.Name)
		b = append(b, byte(r.Operation), byte(r.Permission))
	}
	return b
}

// readRules reads rules whose strings have at most text bytes.
func readRules(r *codec.Reader, count, text int) []acl.Rule {
	n := r.Count(count)
	if n == 0 {
		return nil
	}
	out := make([]acl.Rule, n)
	for i := range out {
		out[i] = acl.Rule{
			Principal: r.String(text), Kind: acl.Kind(r.Byte()), Pattern: acl.Pattern(r.Byte()),
			Name: r.String(text), Operation: acl.Operation(r.Byte()), Permission: acl.Permission(r.Byte()),
		}
	}
	return out
}

// commandRules bounds by the input alone; see readText.
func commandRules(r *codec.Reader) []acl.Rule { return readRules(r, math.MaxInt32, math.MaxInt32) }
