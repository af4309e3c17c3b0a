package netfault

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// socketOf returns the inode of the IPv4 socket with a local and a remote
// address; "" if there is none.
func socketOf(local, remote net.Addr) string {
	from, to := kernelAddress(local), kernelAddress(remote)
	f, err := os.Open("/proc/self/net/tcp")
	if err != nil || from == "" || to == "" {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …
		fields := strings.Fields(lines.Text())
		if len(fields) > 9 && fields[1] == from && fields[2] == to && fields[9] != "0" {
			return fields[9]
		}
	}
	return ""
}

// kernelAddress spells an IPv4 address and port as /proc/net/tcp does: the
// address as a number in the machine's order of bytes, which is little endian on
// all machines of today.
func kernelAddress(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok || tcp.IP.To4() == nil {
		return ""
	}
	ip := slices.Clone(tcp.IP.To4())
	slices.Reverse(ip)
	return fmt.Sprintf("%s:%04X", strings.ToUpper(hex.EncodeToString(ip)), tcp.Port)
}

// owns reports whether a process has a socket open.
func owns(pid int, inode string) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	files, err := os.ReadDir(dir)
	if err != nil {
		return false // it has ended
	}
	want := "socket:[" + inode + "]"
	return slices.ContainsFunc(files, func(f os.DirEntry) bool {
		target, err := os.Readlink(filepath.Join(dir, f.Name()))
		return err == nil && target == want
	})
}
