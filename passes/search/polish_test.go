package search

import (
	"testing"

	"moec/ir/placement"
)

// TestPolish solves problems on three devices of which brute force found the
// optimum (minutes each), and which "exact" missed before it tried other names
// for devices.
func TestPolish(t *testing.T) {
	for seed, best := range map[uint64]int64{40: 460531936000, 540: 91739865600, 560: 3021954112} {
		b := newBrute(t, seed)
		r, err := b.exact(never)
		if err != nil {
			t.Fatal(err)
		}
		if r.best.score != best || r.bound > best {
			t.Errorf("seed %d: exact finds %d and proves %d, the optimum is %d", seed, r.best.score, r.bound, best)
		}
		s, err := b.place(r.best.p)
		if err != nil || s.score != r.best.score {
			t.Errorf("seed %d: the placement costs %d, is said to cost %d (%v)", seed, s.score, r.best.score, err)
		}
	}
}

// TestHomes counts the homes of an expert: on two devices with two segments each
// device, both in two orders as copies and in two as halves; on three devices
// without segments three, six and six; on eight too many.
func TestHomes(t *testing.T) {
	for seed, want := range map[uint64]int{1: 6, 20: 15} {
		b := newBrute(t, seed)
		list := b.allHomes()
		if len(list) != want || len(b.homes()) != want {
			t.Errorf("%d devices: %d homes, brute force has %d, want %d", b.devices, len(list), len(b.homes()), want)
		}
	}
	b := newBrute(t, 1)
	b.devices = 8
	if list := b.allHomes(); list != nil {
		t.Errorf("%d homes on 8 devices", len(list))
	}
	experts := []placement.Expert{{{{Device: 0, Hi: 2}}}, {{{Device: 1, Hi: 1}, {Device: 0, Lo: 1, Hi: 2}}, {{Device: 2, Hi: 2}}}}
	callOtherwise(experts, []int{2, 0, 1})
	if x := experts[1]; experts[0][0][0].Device != 2 || x[0][0].Device != 0 || x[0][1].Device != 2 || x[1][0].Device != 1 {
		t.Errorf("renamed to %v", experts)
	}
}
