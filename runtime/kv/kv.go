// Package kv hands out the KV pages of a plan to sequences.
package kv

// Pages is the pool of one token group. The zero Pages has none.
type Pages struct {
	free []int32
}

// New returns a pool of n pages. Pages are handed out from number 0 up, so a
// run always uses the same ones.
func New(n int) *Pages {
	p := &Pages{free: make([]int32, n)}
	for i := range p.free {
		p.free[i] = int32(n - 1 - i)
	}
	return p
}

// Free returns how many pages are left.
func (p *Pages) Free() int { return len(p.free) }

// Take returns n pages, or false and none.
func (p *Pages) Take(n int) ([]int32, bool) {
	if n > len(p.free) {
		return nil, false
	}
	pages := make([]int32, n)
	for i := range pages {
		pages[i] = p.free[len(p.free)-1-i]
	}
	p.free = p.free[:len(p.free)-n]
	return pages, true
}

// Give takes pages back.
func (p *Pages) Give(pages []int32) {
	for i := len(pages) - 1; i >= 0; i-- {
		p.free = append(p.free, pages[i])
	}
}

// For returns how many pages hold that many positions.
func For(positions, page int) int { return (positions + page - 1) / page }
