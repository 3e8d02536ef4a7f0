package step

import (
	"strings"
	"testing"
)

// TestRows checks which rows of logits may be wanted: each token's once, in order.
func TestRows(t *testing.T) {
	l := Limits{Tokens: 4, Rows: 4, Sequences: 1, Context: 8, Page: 8, Pages: 1, Vocab: 9}
	for _, c := range []struct {
		rows []int32
		want string
	}{{nil, ""}, {[]int32{2}, ""}, {[]int32{0, 1, 2}, ""}, {[]int32{0, 2}, ""}, {[]int32{3}, "row 3 of 3 tokens"}, {[]int32{-1}, "row -1"}, {[]int32{1, 1}, "row 1 comes after row 1"}, {[]int32{2, 0}, "row 0 comes after row 2"}} {
		s := &Step{Groups: []Group{{Tokens: []int32{1, 2, 3}, Positions: []int32{0, 1, 2}, Sequences: []int32{0, 0, 0}, Rows: c.rows, Pages: [][]int32{{0}}}}}
		err := s.Check(l)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("rows %v: %v, want %q", c.rows, err, c.want)
		}
	}
}
