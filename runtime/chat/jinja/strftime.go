package jinja

import (
	"fmt"
	"strings"
	"time"
)

// strftimeVerbs is the table of what may follow a percent sign. Names of days
// and months are English, as in the C locale.
var strftimeVerbs = map[byte]func(time.Time) string{
	'a': func(t time.Time) string { return t.Format("Mon") },
	'A': func(t time.Time) string { return t.Format("Monday") },
	'b': func(t time.Time) string { return t.Format("Jan") },
	'h': func(t time.Time) string { return t.Format("Jan") },
	'B': func(t time.Time) string { return t.Format("January") },
	'c': func(t time.Time) string { return t.Format("Mon Jan _2 15:04:05 2006") },
	'd': func(t time.Time) string { return t.Format("02") },
	'D': func(t time.Time) string { return t.Format("01/02/06") },
	'e': func(t time.Time) string { return t.Format("_2") },
	'f': func(t time.Time) string { return fmt.Sprintf("%06d", t.Nanosecond()/1000) },
	'F': func(t time.Time) string { return t.Format("2006-01-02") },
	'H': func(t time.Time) string { return t.Format("15") },
	'I': func(t time.Time) string { return t.Format("03") },
	'j': func(t time.Time) string { return fmt.Sprintf("%03d", t.YearDay()) },
	'm': func(t time.Time) string { return t.Format("01") },
	'M': func(t time.Time) string { return t.Format("04") },
	'n': func(time.Time) string { return "\n" },
	'p': func(t time.Time) string { return t.Format("PM") },
	'S': func(t time.Time) string { return t.Format("05") },
	't': func(time.Time) string { return "\t" },
	'T': func(t time.Time) string { return t.Format("15:04:05") },
	'u': func(t time.Time) string { return fmt.Sprint((int(t.Weekday())+6)%7 + 1) },
	'w': func(t time.Time) string { return fmt.Sprint(int(t.Weekday())) },
	'x': func(t time.Time) string { return t.Format("01/02/06") },
	'X': func(t time.Time) string { return t.Format("15:04:05") },
	'y': func(t time.Time) string { return t.Format("06") },
	'Y': func(t time.Time) string { return fmt.Sprint(t.Year()) },
	'z': func(time.Time) string { return "" }, // Python's now() has no zone
	'Z': func(time.Time) string { return "" },
	'%': func(time.Time) string { return "%" },
}

// strftime writes the context's time by a format of C's strftime. A minus sign
// before the letter takes leading zeros away.
func (r *run) strftime(format string) (Value, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(format, "%")
		out.WriteString(before)
		if !found {
			break
		}
		rest, bare := strings.CutPrefix(rest, "-")
		if rest == "" {
			return nil, errorf(ValueError, "the time format ends in a percent sign")
		}
		verb, ok := strftimeVerbs[rest[0]]
		if !ok {
			return nil, errorf(ValueError, "the time format %%%c is not known", rest[0])
		}
		written := verb(r.now)
		if bare {
			if trimmed := strings.TrimLeft(written, "0 "); trimmed != "" {
				written = trimmed
			} else {
				written = "0"
			}
		}
		out.WriteString(written)
		format = rest[1:]
	}
	return Str(out.String()), r.charge(out.Len())
}
