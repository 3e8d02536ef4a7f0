package balance

import (
	"cmp"
	"slices"
)

// EPLB returns the layout of DeepSeek's expert parallelism load balancer
// (github.com/deepseek-ai/EPLB), slot by slot the same.
//
// Where nodes matter: groups are packed on nodes, each node copies its busy
// experts, and the copies are packed on its devices. Else all experts are
// copied and packed at once. Sums and shares are float32 as there, and of
// equals the one with the smaller number comes first.
func EPLB(shape Shape, loads []int64) ([]int, error) {
	if err := shape.Check(); err != nil {
		return nil, err
	}
	if err := shape.checkLoads(loads); err != nil {
		return nil, err
	}
	s := shape.flat()
	weights := make([]float32, len(loads))
	for e, w := range loads {
		weights[e] = float32(w)
	}
	order := packGroups(s, weights)
	layout := make([]int, 0, s.Slots)
	size := s.Experts / s.Nodes
	for n := range s.Nodes {
		experts := order[n*size : (n+1)*size]
		mine := make([]float32, size)
		for i, e := range experts {
			mine[i] = weights[e]
		}
		for _, i := range packNode(mine, s.Slots/s.Nodes, s.Devices/s.Nodes) {
			layout = append(layout, experts[i])
		}
	}
	return layout, nil
}

// packGroups returns the experts in the order of their nodes.
func packGroups(s Shape, weights []float32) []int {
	size := s.Experts / s.Groups
	sums := make([]float32, s.Groups)
	for e, w := range weights {
		sums[e/size] += w
	}
	order := make([]int, 0, s.Experts)
	for _, g := range pack(sums, s.Nodes) {
		for i := range size {
			order = append(order, g*size+i)
		}
	}
	return order
}

// packNode returns the layout of experts on the devices of one node.
func packNode(weights []float32, slots, devices int) []int {
	of, count := replicate(weights, slots)
	shares := make([]float32, slots)
	for i, e := range of {
		shares[i] = weights[e] / float32(count[e])
	}
	layout := make([]int, slots)
	for i, j := range pack(shares, devices) {
		layout[i] = of[j]
	}
	return layout
}

// replicate gives every expert one copy and each further one to the expert
// whose copies have the largest share. It returns the expert of each copy.
func replicate(weights []float32, slots int) (of, count []int) {
	count = make([]int, len(weights))
	for e := range weights {
		of, count[e] = append(of, e), 1
	}
	for len(of) < slots {
		most := 0
		for e, w := range weights {
			if w/float32(count[e]) > weights[most]/float32(count[most]) {
				most = e
			}
		}
		of = append(of, most)
		count[most]++
	}
	return of, count
}

// pack puts items in packs of equal numbers: the heaviest left goes to the
// lightest pack that has room. It returns the items pack by pack.
func pack(weights []float32, packs int) []int {
	size := len(weights) / packs
	order := make([]int, len(weights))
	for i := range order {
		order[i] = i
	}
	if size == 1 {
		return order
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(weights[b], weights[a]) })
	sums, lists := make([]float32, packs), make([][]int, packs)
	for _, i := range order {
		lightest := -1
		for p := range packs {
			if len(lists[p]) < size && (lightest < 0 || sums[p] < sums[lightest]) {
				lightest = p
			}
		}
		sums[lightest] += weights[i]
		lists[lightest] = append(lists[lightest], i)
	}
	return slices.Concat(lists...)
}
