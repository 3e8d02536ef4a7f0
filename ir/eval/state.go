package eval

import "fmt"

// State is the KV caches of all sequences. Runs of a graph extend it.
type State struct {
	caches map[part]*Cache
}

// part is what one device keeps of a cache for one token group; both numbers
// are -1 in a logical graph.
type part struct {
	name          string
	device, group int
}

// NewState returns the state of no sequences.
func NewState() *State { return &State{caches: map[part]*Cache{}} }

// Drop forgets a sequence.
func (s *State) Drop(sequence int32) {
	for _, c := range s.caches {
		delete(c.sequences, sequence)
	}
}

// Cache holds keys and values of sequences, position after position: for each
// head, the key, then the value.
type Cache struct {
	Heads, KeyDim, ValDim int
	sequences             map[int32][]float32
}

// cache returns a cache, new if there was none.
func (s *State) cache(p part, heads, keyDim, valDim int) *Cache {
	c, ok := s.caches[p]
	if !ok {
		c = &Cache{Heads: heads, KeyDim: keyDim, ValDim: valDim, sequences: map[int32][]float32{}}
		s.caches[p] = c
	}
	return c
}

// width is the number of elements of a position.
func (c *Cache) width() int { return c.Heads * (c.KeyDim + c.ValDim) }

// Positions returns how many positions of a sequence are stored.
func (c *Cache) Positions(sequence int32) int { return len(c.sequences[sequence]) / c.width() }

// at returns the elements of a position, which may be the next or a stored one.
func (c *Cache) at(sequence int32, position int) ([]float32, error) {
	have := c.Positions(sequence)
	if position < 0 || position > have {
		return nil, fmt.Errorf("sequence %d: position %d does not follow the %d that are stored", sequence, position, have)
	}
	if position == have {
		c.sequences[sequence] = append(c.sequences[sequence], make([]float32, c.width())...)
	}
	return c.sequences[sequence][position*c.width():][:c.width()], nil
}
