// Package netfault is a network between processes on loopback that can be cut,
// slowed down and broken, without privileges.
//
// Every process that is to be reached gets doors: listeners whose connections are
// passed on to it. Who else knows the process by the addresses of its doors is
// reached and reaches it through the network, which finds out by itself which
// process is at the other end of a connection (see [Processes]), and asks one
// [Rule] per direction what becomes of the bytes.
//
// A cut loses nothing that TCP would not lose: bytes that are under way wait, and
// arrive late when the cut ends, unless one of the ends has given up. That is
// what a network partition does to connections, and late messages are what finds
// most bugs of protocols. A cut of one direction leaves the other as it is.
package netfault
