package output

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Count returns a number with its thousands separated: 1,234,567.
func Count[N ~int | ~int64 | ~uint32 | ~uint64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	if uint64(n) > 1<<63-1 && n > 0 {
		digits = strconv.FormatUint(uint64(n), 10)
	}
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return sign + b.String()
}

// Bytes returns a size with a binary unit and three digits: 1.21 MiB.
func Bytes(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	size, unit := float64(n), 0
	for size >= 1024 && unit < len(units)-1 {
		size /= 1024
		unit++
	}
	switch {
	case unit == 0:
		return fmt.Sprintf("%d B", n)
	case size < 10:
		return fmt.Sprintf("%.2f %s", size, units[unit])
	case size < 100:
		return fmt.Sprintf("%.1f %s", size, units[unit])
	default:
		return fmt.Sprintf("%.0f %s", size, units[unit])
	}
}

// Duration returns d with two units at most: 1h02m, 3m05s, 4.2s, 250ms.
func Duration(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + Duration(-d)
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Round(100*time.Millisecond).Seconds(), 'f', -1, 64) + "s"
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < time.Hour:
		d = d.Round(time.Second)
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		d = d.Round(time.Minute)
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		d = d.Round(time.Hour)
		return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}

// Millis returns a span of milliseconds as [Duration] does.
func Millis(ms int64) string { return Duration(time.Duration(ms) * time.Millisecond) }

// Time returns a point in time, in milliseconds since the Unix epoch, in UTC
// with milliseconds; 0 is absent.
func Time(ms int64) string {
	if ms == 0 {
		return absent
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}

// Optional returns a number, or absent for nil.
func Optional[N any](n *N) string {
	if n == nil {
		return absent
	}
	return fmt.Sprint(*n)
}

// Enum returns the name of an enum's value without the prefix of its type, in
// lower case with dashes: TRANSACTION_STATE_PREPARE_COMMIT is prepare-commit.
func Enum(value fmt.Stringer, prefix string) string {
	name := strings.TrimPrefix(value.String(), prefix+"_")
	if name == "UNSPECIFIED" {
		return absent
	}
	return strings.ToLower(strings.ReplaceAll(name, "_", "-"))
}
