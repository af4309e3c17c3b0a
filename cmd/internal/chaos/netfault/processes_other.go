//go:build !linux

package netfault

import "net"

// socketOf: only Linux tells.
func socketOf(_, _ net.Addr) string { return "" }

func owns(int, string) bool { return false }
