// Package authn finds out who calls, from the certificate of a connection or the bearer
// token of a call, and asks whether the call may be made. It is what stands between a
// node's client address and its services.
package authn
