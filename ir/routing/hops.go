package routing

// Hops returns how often a token changes devices on its way through the
// layers: the mean over tokens of the number of neighbouring layers with
// experts in which the expert of a slot is on another device than the expert
// of the same slot in the layer before. homes[l][e] is the device of expert e
// of layer l. The mean is over the first slots of each token.
//
// With one slot, the best choice, this is the cost that ExFlow (Yao et al.,
// arXiv:2401.08383) minimises and prints for one node: its traces hold one
// expert for each token and layer, and every change of GPU costs 1.
func (s *Stats) Hops(paths [][]uint16, homes [][]int, slots int) float64 {
	total := 0.0
	s.neighbours(func(from, to int) {
		j, k := s.Layers[from].Slots, s.Layers[to].Slots
		n, tokens, hops := min(slots, j, k), len(paths[to])/k, 0
		for t := range tokens {
			for i := range n {
				if homes[from][paths[from][t*j+i]] != homes[to][paths[to][t*k+i]] {
					hops++
				}
			}
		}
		if n > 0 && tokens > 0 {
			total += float64(hops) / float64(n*tokens)
		}
	})
	return total
}

// neighbours calls f for each pair of layers with experts and none between.
func (s *Stats) neighbours(f func(from, to int)) {
	last := -1
	for l := range s.Layers {
		if s.Layers[l].Experts == 0 {
			continue
		}
		if last >= 0 {
			f(last, l)
		}
		last = l
	}
}

// PairHops returns the same from the counts of Next, which do not say in
// which slots experts were chosen: the mean is over all pairs of a slot in one
// layer and a slot in the next. With one slot it equals Hops over all tokens.
// Layers without Next count as if they were placed perfectly.
func (s *Stats) PairHops(homes [][]int) float64 {
	total := 0.0
	s.neighbours(func(from, to int) {
		var crossing, all int64
		for e, row := range s.Layers[from].Next {
			for f, n := range row {
				all += n
				if homes[from][e] != homes[to][f] {
					crossing += n
				}
			}
		}
		if all > 0 {
			total += float64(crossing) / float64(all)
		}
	})
	return total
}
