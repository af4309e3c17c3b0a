package acl

import "strings"

// Set is what some rules allow. It does not change; the zero value and nil allow
// nothing.
type Set struct {
	books map[subject]*book
}

// subject is a principal, or [Any], and a kind of resource.
type subject struct {
	principal string
	kind      Kind
}

// book has the rules of one subject as they are looked up.
type book struct {
	literal  map[string][]Rule
	prefixed []Rule
}

// NewSet returns what the rules allow.
func NewSet(rules []Rule) *Set {
	s := &Set{books: map[subject]*book{}}
	for _, r := range rules {
		at := subject{r.Principal, r.Kind}
		b := s.books[at]
		if b == nil {
			b = &book{literal: map[string][]Rule{}}
			s.books[at] = b
		}
		if r.Pattern == Prefixed {
			b.prefixed = append(b.prefixed, r)
		} else {
			b.literal[r.Name] = append(b.literal[r.Name], r)
		}
	}
	return s
}

// about returns the books that speak of the principal, and of everybody.
func (s *Set) about(principal string, kind Kind) [2]*book {
	if s == nil {
		return [2]*book{}
	}
	if principal == Any {
		return [2]*book{s.books[subject{Any, kind}]}
	}
	return [2]*book{s.books[subject{principal, kind}], s.books[subject{Any, kind}]}
}

// Allows reports whether the principal may do the operation to the resource: some
// rule allows it, and none denies it.
func (s *Set) Allows(principal string, want Operation, on Resource) bool {
	allowed := false
	for _, b := range s.about(principal, on.Kind) {
		if b == nil {
			continue
		}
		for _, rules := range [][]Rule{b.literal[on.Name], b.literal[Any]} {
			for _, r := range rules {
				if !r.speaks(want) {
					continue
				}
				if r.Permission == Deny {
					return false
				}
				allowed = true
			}
		}
		for _, r := range b.prefixed {
			if !r.speaks(want) || !strings.HasPrefix(on.Name, r.Name) {
				continue
			}
			if r.Permission == Deny {
				return false
			}
			allowed = true
		}
	}
	return allowed
}

// AllowsEvery reports whether the principal may do the operation to every resource of
// the kind, whatever its name: what it takes to ask for one whose name is not known.
func (s *Set) AllowsEvery(principal string, want Operation, kind Kind) bool {
	allowed := false
	for _, r := range s.rules(principal, want, kind) {
		if r.Permission == Deny {
			return false
		}
		allowed = allowed || r.Pattern == Literal && r.Name == Any
	}
	return allowed
}

// AllowsSome reports whether there is a name under which the principal may do the
// operation: some rule allows it that no rule denies as a whole. It is
// authorizeByResourceType of Kafka (KIP-679).
func (s *Set) AllowsSome(principal string, want Operation, kind Kind) bool {
	rules := s.rules(principal, want, kind)
	for _, allow := range rules {
		if allow.Permission != Allow {
			continue
		}
		denied := false
		for _, deny := range rules {
			denied = denied || deny.Permission == Deny && deny.covers(allow)
		}
		if !denied {
			return true
		}
	}
	return false
}

// rules returns the rules that speak of an operation on a kind.
func (s *Set) rules(principal string, want Operation, kind Kind) (out []Rule) {
	for _, b := range s.about(principal, kind) {
		if b == nil {
			continue
		}
		for _, rules := range b.literal { // in any order: only whether there is one matters
			for _, r := range rules {
				if r.speaks(want) {
					out = append(out, r)
				}
			}
		}
		for _, r := range b.prefixed {
			if r.speaks(want) {
				out = append(out, r)
			}
		}
	}
	return out
}

// covers reports whether the rule speaks of every name that the other one speaks of.
func (r Rule) covers(other Rule) bool {
	switch {
	case r.Pattern == Literal && r.Name == Any:
		return true
	case other.Pattern == Literal && other.Name == Any:
		return false
	case r.Pattern == Prefixed:
		return strings.HasPrefix(other.Name, r.Name)
	default:
		return other.Pattern == Literal && other.Name == r.Name
	}
}
