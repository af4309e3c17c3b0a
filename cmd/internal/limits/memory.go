package limits

import (
	"bytes"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// defaultMemory is assumed where nobody tells.
const defaultMemory = 4 << 30

// Memory is how many bytes of memory the process may use: the least of Go's limit
// (GOMEMLIMIT), the container's and the machine's.
func Memory() int64 {
	least := debug.SetMemoryLimit(-1) // asks, and sets nothing
	if text, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 {
			least = min(least, n)
		}
	}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		if n := total(text); n > 0 {
			least = min(least, n)
		}
	}
	if least == math.MaxInt64 {
		return defaultMemory
	}
	return least
}

// total reads the first line that matters of /proc/meminfo; 0: there is none.
func total(meminfo []byte) int64 {
	for line := range bytes.Lines(meminfo) {
		fields := bytes.Fields(line)
		if len(fields) == 3 && string(fields[0]) == "MemTotal:" && string(fields[2]) == "kB" {
			if kib, err := strconv.ParseInt(string(fields[1]), 10, 54); err == nil {
				return kib << 10
			}
		}
	}
	return 0
}
