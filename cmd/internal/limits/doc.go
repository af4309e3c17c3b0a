// Package limits bounds what the callers of a client address can make a node hold.
//
// gRPC bounds a message and the streams of a connection. It does not bound their product,
// nor the time for which a message may stay half sent or half read: a connection of 4,096
// streams with a message each may hold gigabytes. So a [Meter] reads along: it follows the
// HTTP/2 frames of every connection, in the clear, and knows of each stream what came and
// was not taken yet, and what was handed over and was not written yet. From these sums it
//
//   - refuses new calls of the connections that hold most, while much is held;
//   - closes the connection that holds most when the bound is reached;
//   - ends streams on which nothing moves for too long, in either direction.
//
// [Principals] bound the calls, and the bytes of their requests, that are under way for one
// principal; a [Listener] bounds connections.
package limits
