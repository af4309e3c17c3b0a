package pstate

import "iter"

// link is the place of an element in a [list]; it lives inside the element.
type link[T any] struct{ prev, next *T }

// list is a doubly linked list through a link in its elements, so that an
// element is removed from the middle in constant time: that is what keeps the
// LSO a constant time question however many transactions end out of order.
type list[T any] struct {
	head, tail *T
	len        int
	at         func(*T) *link[T]
}

func (l *list[T]) pushBack(e *T) {
	k := l.at(e)
	k.prev, k.next = l.tail, nil
	if l.tail == nil {
		l.head = e
	} else {
		l.at(l.tail).next = e
	}
	l.tail = e
	l.len++
}

func (l *list[T]) remove(e *T) {
	k := l.at(e)
	if k.prev == nil {
		l.head = k.next
	} else {
		l.at(k.prev).next = k.next
	}
	if k.next == nil {
		l.tail = k.prev
	} else {
		l.at(k.next).prev = k.prev
	}
	k.prev, k.next = nil, nil
	l.len--
}

// all walks the list; the element at hand may be removed while walking.
func (l *list[T]) all() iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for e := l.head; e != nil; {
			next := l.at(e).next
			if !yield(e) {
				return
			}
			e = next
		}
	}
}
