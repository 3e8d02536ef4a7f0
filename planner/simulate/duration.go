package simulate

import (
	"fmt"
	"math"
)

// Duration prints picoseconds for people: four digits and a unit.
func Duration(ps int64) string {
	if ps < 0 && ps != math.MinInt64 {
		return "-" + Duration(-ps)
	}
	for _, u := range []struct {
		size int64
		name string
	}{{1e12, "s"}, {1e9, "ms"}, {1e6, "us"}, {1e3, "ns"}} {
		if ps < u.size {
			continue
		}
		whole := ps / u.size
		digits := 3
		for n := whole; n >= 10 && digits > 0; n /= 10 {
			digits--
		}
		scale := int64(1)
		for range digits {
			scale *= 10
		}
		n := (ps/(u.size/1e3)*scale + 500) / 1000 // u.size has three digits more than needed
		if digits == 0 {
			return fmt.Sprintf("%d %s", n, u.name)
		}
		return fmt.Sprintf("%d.%0*d %s", n/scale, digits, n%scale, u.name)
	}
	return fmt.Sprintf("%d ps", ps)
}
