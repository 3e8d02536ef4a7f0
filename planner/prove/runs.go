package prove

import (
	"slices"
)

// entry is one number of a row of a value of the model: the value's class and
// the place in the row, counted over all axes after that of the tokens.
type entry struct{ of, at int }

// run is n entries of a class: from at on, or the same one n times.
type run struct {
	of, at, n int
	repeated  bool
}

// runs is what a row of a buffer holds, in order.
type runs []run

// entry returns entry i of the run.
func (r run) entry(i int) entry {
	if r.repeated {
		return entry{r.of, r.at}
	}
	return entry{r.of, r.at + i}
}

// add appends a run, joined with the last one where they go on.
func (l runs) add(r run) runs {
	if r.n == 0 {
		return l
	}
	if r.n == 1 {
		r.repeated = false
	}
	if len(l) > 0 {
		p := &l[len(l)-1]
		switch {
		case p.of != r.of:
		case !r.repeated && !p.repeated && p.at+p.n == r.at:
			p.n += r.n
			return l
		case p.at == r.at && (p.repeated || p.n == 1) && (r.repeated || r.n == 1):
			p.n, p.repeated = p.n+r.n, true
			return l
		}
	}
	return append(l, r)
}

// join appends all runs of a list.
func (l runs) join(m runs) runs {
	for _, r := range m {
		l = l.add(r)
	}
	return l
}

// length returns how many entries there are.
func (l runs) length() int {
	n := 0
	for _, r := range l {
		n += r.n
	}
	return n
}

// cut returns the entries lo to hi-1.
func (l runs) cut(lo, hi int) runs {
	var out runs
	at := 0
	for _, r := range l {
		first, end := max(lo, at), min(hi, at+r.n)
		if first < end {
			part := r
			if part.n = end - first; !r.repeated {
				part.at += first - at
			}
			out = out.add(part)
		}
		if at += r.n; at >= hi {
			break
		}
	}
	return out
}

// equal reports whether two lists are the same entries.
func (l runs) equal(m runs) bool {
	n := l.length()
	return n == m.length() && l.agree(0, m, 0) == n
}

// first returns the first entry of a list that is not empty.
func (l runs) first() entry { return l[0].entry(0) }

// sliced returns entries lo, lo+step, ... below hi of an axis of a row of the
// given extents.
func (l runs) sliced(dims []int, axis, lo, hi, step int) runs {
	outer, inner := volume(dims[:axis]), volume(dims[axis+1:])
	var out runs
	for o := range outer {
		base := o * dims[axis] * inner
		if step == 1 {
			out = out.join(l.cut(base+lo*inner, base+hi*inner))
			continue
		}
		for i := lo; i < hi; i += step {
			out = out.join(l.cut(base+i*inner, base+(i+1)*inner))
		}
	}
	return out
}

// joined returns rows of the given extents, one after the other along an axis.
func joined(list []runs, dims [][]int, axis int) runs {
	var out runs
	for o := range volume(dims[0][:axis]) {
		for i, l := range list {
			n := volume(dims[i][axis:])
			out = out.join(l.cut(o*n, (o+1)*n))
		}
	}
	return out
}

// spread repeats a row to larger extents, aligned at the last axes.
func (l runs) spread(dims, to []int) runs {
	if slices.Equal(dims, to) {
		return l
	}
	full := make([]int, len(to)) // dims with leading ones
	for i := range full {
		full[i] = 1
		if k := i - (len(to) - len(dims)); k >= 0 {
			full[i] = dims[k]
		}
	}
	// From the innermost axis outwards: unit is the entries of a place of the
	// axis as they are, out the list with the inner axes repeated.
	out, unit := l, 1
	for axis := len(to) - 1; axis >= 0; axis-- {
		if full[axis] == 1 && to[axis] > 1 {
			var next runs
			for at := 0; at < out.length(); at += unit {
				part := out.cut(at, at+unit)
				if unit == 1 {
					r := part[0]
					r.n, r.repeated = to[axis], true
					next = next.add(r)
					continue
				}
				for range to[axis] {
					next = next.join(part)
				}
			}
			out = next
		}
		unit *= to[axis]
	}
	return out
}

// find returns the places at which a list has an entry; of a run that repeats
// it only the first.
func (l runs) find(e entry) []int {
	var places []int
	at := 0
	for _, r := range l {
		switch {
		case r.of != e.of:
		case r.repeated && r.at == e.at:
			places = append(places, at)
		case !r.repeated && e.at >= r.at && e.at < r.at+r.n:
			places = append(places, at+e.at-r.at)
		}
		at += r.n
	}
	return places
}

// agree returns how many entries of l from i on are those of m from j on.
func (l runs) agree(i int, m runs, j int) int {
	a, b := cursorAt(l, i), cursorAt(m, j)
	n := 0
	for a.ok() && b.ok() {
		ra, rb := a.rest(), b.rest()
		if ra.entry(0) != rb.entry(0) {
			break
		}
		step := min(ra.n, rb.n)
		if ra.repeated != rb.repeated {
			step = 1
		}
		n += step
		a.skip(step)
		b.skip(step)
	}
	return n
}

// cursor is a place in a list.
type cursor struct {
	l      runs
	at, in int
}

func cursorAt(l runs, i int) *cursor {
	c := &cursor{l: l}
	c.skip(i)
	return c
}

func (c *cursor) ok() bool { return c.at < len(c.l) }

// rest returns what is left of the present run.
func (c *cursor) rest() run {
	r := c.l[c.at]
	if r.n -= c.in; !r.repeated {
		r.at += c.in
	}
	return r
}

func (c *cursor) skip(n int) {
	for c.ok() {
		left := c.l[c.at].n - c.in
		if n < left {
			c.in += n
			return
		}
		n -= left
		c.at, c.in = c.at+1, 0
	}
}
