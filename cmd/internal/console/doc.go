// Package console shows a cluster in a browser: what is where and who leads, which
// transactions are open and who waits for them, what happened to one, how far groups
// are, and what is in a partition.
//
// It is a client like any other: what its user may not do, it cannot. Pages are made
// here and complete without a script; the one script that there is keeps them fresh.
// Nothing is loaded from elsewhere. What changes something is asked for on a page of
// its own, sent with a token that only that page has, and written to the log.
//
// handler.go has the routes and the rules of every answer, params.go what addresses may
// say, one file per view what it shows, commands.go the same for the command line.
package console
