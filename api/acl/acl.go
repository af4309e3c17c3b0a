// Package acl says what a rule about permissions is, and what a set of rules
// allows. It is pure: the catalogue keeps rules, coordinators and partition nodes
// decide by them, and all three mean the same.
//
// The words and their meaning are those of Kafka's ACLs: a rule allows or denies a
// principal an operation on resources of one name, or of all names that begin with
// a prefix. What nothing allows is denied, and a rule that denies wins over all that
// allow. Read, Write, Delete, Alter and AlterConfigs allow Describe as well; to deny
// one of them does not deny Describe.
package acl

import (
	"cmp"
	"strings"
)

const (
	// Any as the principal of a rule is everybody, anonymous callers included; as the
	// name of a literal rule it is every resource of the kind.
	Any = "*"
	// Anonymous is the principal of a caller who shows neither a certificate nor a
	// token.
	Anonymous = "anonymous"
	// ClusterName is the name of the one resource of kind Cluster.
	ClusterName = "oncelog"
)

// Limits of a rule, and of a cluster.
const (
	// MaxPrincipalBytes bounds the name of a principal, in rules, certificates and
	// tokens.
	MaxPrincipalBytes = 255
	// MaxNameBytes bounds the name or prefix of a rule.
	MaxNameBytes = 249
	// MaxRules bounds the rules of a cluster.
	MaxRules = 10_000
)

// Kind is the kind of a resource. The numbers are for ever.
type Kind uint8

// The kinds.
const (
	Topic           Kind = 1
	Group           Kind = 2
	TransactionalID Kind = 3
	Cluster         Kind = 4
)

// Operation is what somebody does to a resource. The numbers are for ever.
type Operation uint8

// The operations. All stands for all of them, in rules only.
const (
	All          Operation = 1
	Read         Operation = 2
	Write        Operation = 3
	Create       Operation = 4
	Delete       Operation = 5
	Alter        Operation = 6
	Describe     Operation = 7
	AlterConfigs Operation = 8
)

// Pattern says how the name of a rule is meant. The numbers are for ever.
type Pattern uint8

// The patterns.
const (
	// Literal: exactly this name, or every one if it is [Any].
	Literal Pattern = 1
	// Prefixed: every name that begins with it.
	Prefixed Pattern = 2
)

// Permission is what a rule does. The numbers are for ever.
type Permission uint8

// The permissions.
const (
	Allow Permission = 1
	Deny  Permission = 2
)

// String returns the word of the kind, as commands and errors spell it.
func (k Kind) String() string { return word(kinds[:], int(k)) }

// String returns the word of the operation, as commands and errors spell it.
func (o Operation) String() string { return word(operations[:], int(o)) }

// String returns the word of the pattern.
func (p Pattern) String() string { return word(patterns[:], int(p)) }

// String returns the word of the permission.
func (p Permission) String() string { return word(permissions[:], int(p)) }

var (
	kinds      = [...]string{Topic: "Topic", Group: "Group", TransactionalID: "TransactionalId", Cluster: "Cluster"}
	operations = [...]string{
		All: "All", Read: "Read", Write: "Write", Create: "Create", Delete: "Delete", Alter: "Alter", Describe: "Describe",
		AlterConfigs: "AlterConfigs",
	}
	patterns    = [...]string{Literal: "Literal", Prefixed: "Prefixed"}
	permissions = [...]string{Allow: "Allow", Deny: "Deny"}
)

func word(words []string, i int) string {
	if i < len(words) && words[i] != "" {
		return words[i]
	}
	return "unknown"
}

func number(words []string, w string) int {
	for i, known := range words {
		if known != "" && strings.EqualFold(known, w) {
			return i
		}
	}
	return 0
}

// ParseKind is the reverse of [Kind.String], in any case of letters; 0: no kind.
func ParseKind(w string) Kind { return Kind(number(kinds[:], w)) }

// ParseOperation is the reverse of [Operation.String], in any case of letters; 0: no
// operation.
func ParseOperation(w string) Operation { return Operation(number(operations[:], w)) }

// Operations returns the operations that a rule about the kind may name besides All:
// the ones that some call asks for. Others would be a mistake that nobody sees.
func (k Kind) Operations() []Operation {
	switch k {
	case Topic:
		return []Operation{Read, Write, Create, Delete, Describe, AlterConfigs}
	case Group:
		return []Operation{Read, Delete, Describe}
	case TransactionalID:
		return []Operation{Write, Delete, Alter, Describe}
	case Cluster:
		return []Operation{Create, Alter, Describe}
	default:
		return nil
	}
}

// Resource is what is asked for.
type Resource struct {
	Kind Kind
	Name string
}

// TheCluster is the one resource of its kind.
var TheCluster = Resource{Cluster, ClusterName}

// Rule allows or denies something.
type Rule struct {
	Principal  string // a name, or Any
	Kind       Kind
	Pattern    Pattern
	Name       string // a name, a prefix, or Any
	Operation  Operation
	Permission Permission
}

// Problem names the field of a rule that breaks its limits, and says how; "": none.
func (r Rule) Problem() (field, problem string) {
	switch {
	case r.Principal == "" || len(r.Principal) > MaxPrincipalBytes:
		return "principal", "must have 1 to 255 bytes; * is everybody"
	case r.Name == "" || len(r.Name) > MaxNameBytes:
		return "name", "must have 1 to 249 bytes; a literal * is every one"
	case r.Kind.Operations() == nil:
		return "resource", "must be Topic, Group, TransactionalId or Cluster"
	case r.Pattern != Literal && r.Pattern != Prefixed:
		return "pattern", "must be Literal or Prefixed"
	case r.Kind == Cluster && (r.Pattern != Literal || r.Name != ClusterName):
		return "name", "of the cluster is " + ClusterName + ", literally"
	case r.Permission != Allow && r.Permission != Deny:
		return "permission", "must be Allow or Deny"
	case !r.Kind.has(r.Operation):
		return "operation", "is none that there is on this kind of resource"
	}
	return "", ""
}

func (k Kind) has(o Operation) bool {
	if o == All {
		return true
	}
	for _, known := range k.Operations() {
		if o == known {
			return true
		}
	}
	return false
}

// Compare orders rules: by principal, kind, name and the rest. Equal rules are one.
func Compare(a, b Rule) int {
	return cmp.Or(
		cmp.Compare(a.Principal, b.Principal), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name),
		cmp.Compare(a.Pattern, b.Pattern), cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.Permission, b.Permission),
	)
}

// grants reports whether a rule that allows the operation o allows want.
func (o Operation) grants(want Operation) bool {
	switch {
	case o == All, o == want:
		return true
	case want != Describe:
		return false
	}
	return o == Read || o == Write || o == Delete || o == Alter || o == AlterConfigs
}

// speaks reports whether the rule is about an operation, in its way: to deny one does
// not deny what it includes.
func (r Rule) speaks(want Operation) bool {
	if r.Permission == Deny {
		return r.Operation == All || r.Operation == want
	}
	return r.Operation.grants(want)
}
