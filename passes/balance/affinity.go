package balance

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Affinity places the experts of all layers such that few of the transitions
// go to another device: next[l][e][f] counts tokens that went from expert e of
// one layer with experts to expert f of the following. Every device gets the
// same number of experts of each layer, give or take one where they do not
// divide. It returns the device of each expert, layer by layer.
//
// Where few placements of a layer exist, as with 8 experts on 4 devices, the
// result is the best there is: a layer only meets its neighbours, so the best
// ways to each placement of a layer follow from those of the layer before.
// Else layers are placed in turn, each as well as its neighbours allow, from
// several starts, until nothing improves.
func Affinity(next [][][]int64, devices int) ([][]int, error) {
	sizes, err := checkNext(next, devices)
	if err != nil {
		return nil, err
	}
	if lists := catalogues(sizes, devices); lists != nil {
		return shortest(next, lists, devices), nil
	}
	return descendLayers(next, sizes, devices), nil
}

// Crossing returns how many of the transitions go to another device.
func Crossing(next [][][]int64, homes [][]int) int64 {
	var n int64
	for l := range next {
		for e, row := range next[l] {
			for f, c := range row {
				if homes[l][e] != homes[l+1][f] {
					n += c
				}
			}
		}
	}
	return n
}

// checkNext returns the number of experts of each layer.
func checkNext(next [][][]int64, devices int) ([]int, error) {
	if len(next) == 0 || devices < 1 {
		return nil, fmt.Errorf("affinity: need transitions between at least two layers and one device, have %d and %d", len(next), devices)
	}
	var sizes []int
	for l, rows := range next {
		if len(rows) == 0 || len(rows[0]) == 0 || len(rows) > maxExperts {
			return nil, fmt.Errorf("affinity: transitions from layer %d: need 1 to %d experts, have %d", l, maxExperts, len(rows))
		}
		if l > 0 && len(rows) != sizes[l] {
			return nil, fmt.Errorf("affinity: transitions from layer %d: need a row for each of %d experts, have %d", l, sizes[l], len(rows))
		}
		if l == 0 {
			sizes = append(sizes, len(rows))
		}
		var sum int64
		for e, row := range rows {
			if len(row) != len(rows[0]) {
				return nil, fmt.Errorf("affinity: transitions from layer %d: need %d numbers for expert %d, have %d", l, len(rows[0]), e, len(row))
			}
			for f, c := range row {
				if sum += c; c < 0 || sum < 0 || sum > math.MaxInt64>>16 {
					return nil, fmt.Errorf("affinity: transitions from layer %d: experts %d to %d count %d: need 0 or more, and a smaller sum", l, e, f, c)
				}
			}
		}
		sizes = append(sizes, len(rows[0]))
	}
	return sizes, nil
}

// room returns how many of n experts a device gets.
func room(n, device, devices int) int {
	if device < n%devices {
		return n/devices + 1
	}
	return n / devices
}

// starts is how many random first layers the search begins from.
const starts = 8

// descendLayers places layers in turn until nothing improves.
func descendLayers(next [][][]int64, sizes []int, devices int) [][]int {
	rng := rand.New(rand.NewPCG(1, 1))
	var best [][]int
	least := int64(math.MaxInt64)
	for range starts {
		homes := make([][]int, len(sizes))
		homes[0] = contiguous(sizes[0], devices)
		rng.Shuffle(sizes[0], func(i, j int) { homes[0][i], homes[0][j] = homes[0][j], homes[0][i] })
		for l := 1; l < len(sizes); l++ {
			homes[l] = assign(layerGains(next, homes, l, sizes[l], devices), devices)
		}
		crossing := Crossing(next, homes)
		for {
			for i := range 2*len(sizes) - 1 { // backwards, then forwards
				l := max(len(sizes)-1-i, i-len(sizes)+1)
				homes[l] = assign(layerGains(next, homes, l, sizes[l], devices), devices)
			}
			after := Crossing(next, homes)
			if after >= crossing {
				break
			}
			crossing = after
		}
		if crossing < least {
			best, least = homes, crossing
		}
	}
	return best
}

// contiguous places runs of experts on devices in order.
func contiguous(n, devices int) []int {
	var home []int
	for d := range devices {
		for range room(n, d, devices) {
			home = append(home, d)
		}
	}
	return home
}

// layerGains returns the transitions that would stay on each device, to and
// from the neighbours that are placed.
func layerGains(next [][][]int64, homes [][]int, l, size, devices int) []int64 {
	gain := make([]int64, size*devices)
	if l > 0 && homes[l-1] != nil {
		for e, row := range next[l-1] {
			d := homes[l-1][e]
			for f, c := range row {
				gain[f*devices+d] += c
			}
		}
	}
	if l < len(next) && homes[l+1] != nil {
		for e, row := range next[l] {
			for f, c := range row {
				gain[e*devices+homes[l+1][f]] += c
			}
		}
	}
	return gain
}
