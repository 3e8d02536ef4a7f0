package balance

// catalogue is all placements of a layer's experts on devices. Placements that
// only name devices of equal room differently are alike, and one of them
// stands for all.
type catalogue struct {
	all   [][]uint8 // the device of each expert
	like  []int32   // for each, the one that stands for it
	names [][]uint8 // and what its devices are called here
	stand []int32   // those that stand for others
}

// Bounds up to which all placements are compared: of placements of a layer,
// and of pairs of one and the next layer's that stand for others. A layer of 8
// experts on 4 devices has 2520, of which 105 stand for others.
const (
	fewPlacements = 50_000
	fewPairs      = 8_000_000
)

// catalogues lists the placements of each layer, or nil if a layer has too
// many. Layers of one size share a list.
func catalogues(sizes []int, devices int) []*catalogue {
	known := make(map[int]*catalogue)
	var lists []*catalogue
	first := firstAlike(sizes, devices)
	for l, n := range sizes {
		if known[n] == nil {
			all := allPlacements(n, devices)
			if all == nil {
				return nil
			}
			known[n] = newCatalogue(all, first)
		}
		lists = append(lists, known[n])
		if l > 0 && len(lists[l-1].all)*len(lists[l].stand) > fewPairs {
			return nil
		}
	}
	return lists
}

// allPlacements lists the ways to give devices equal numbers of n experts, or
// nil if there are too many.
func allPlacements(n, devices int) [][]uint8 {
	if n > 16 || devices > 16 {
		return nil
	}
	left := make([]int, devices)
	for d := range left {
		left[d] = room(n, d, devices)
	}
	var list [][]uint8
	home := make([]uint8, 0, n)
	var put func()
	put = func() {
		if len(list) > fewPlacements {
			return
		}
		if len(home) == n {
			list = append(list, append([]uint8(nil), home...))
			return
		}
		for d := range left {
			if left[d] > 0 {
				left[d]--
				home = append(home, uint8(d))
				put()
				home = home[:len(home)-1]
				left[d]++
			}
		}
	}
	if put(); len(list) > fewPlacements {
		return nil
	}
	return list
}

// firstAlike returns, for each device, the first that has the same room as it
// in every layer.
func firstAlike(sizes []int, devices int) []int {
	first := make([]int, devices)
	for d := range devices {
		first[d] = d
		if d == 0 {
			continue
		}
		alike := true
		for _, n := range sizes {
			alike = alike && room(n, d, devices) == room(n, d-1, devices)
		}
		if alike {
			first[d] = first[d-1]
		}
	}
	return first
}

func newCatalogue(all [][]uint8, first []int) *catalogue {
	c := &catalogue{all: all}
	index := make(map[string]int32)
	for p, home := range all {
		stand, names := standard(home, first)
		// Lists are in ascending order, and so the one that names devices as
		// they appear is the first of those that are alike.
		if _, ok := index[stand]; !ok {
			index[stand] = int32(p)
			c.stand = append(c.stand, int32(p))
		}
		c.like, c.names = append(c.like, index[stand]), append(c.names, names)
	}
	return c
}

// standard renames devices that are alike in the order in which they appear.
// It returns the placement so, and for each name the device that it stands for.
func standard(home []uint8, first []int) (string, []uint8) {
	to, names, used := make([]int, len(first)), make([]uint8, len(first)), make([]int, len(first))
	for d := range to {
		to[d], names[d] = -1, uint8(d)
	}
	out := make([]byte, len(home))
	for e, d := range home {
		if to[d] < 0 {
			f := first[d]
			to[d] = f + used[f]
			names[to[d]] = d
			used[f]++
		}
		out[e] = byte(to[d])
	}
	return string(out), names
}

// shortest finds the best sequence of placements. How well one can arrive at
// a placement does not depend on what its devices are called, so only those
// that stand for others are arrived at.
func shortest(next [][][]int64, lists []*catalogue, devices int) [][]int {
	stay := make([]int64, len(lists[0].all)) // most transitions that stay, on the way to each placement
	var from [][]int32
	for l, rows := range next {
		to := lists[l+1]
		best, back := make([]int64, len(to.all)), make([]int32, len(to.all))
		for _, q := range to.stand {
			best[q] = -1
		}
		gain := make([]int64, len(rows[0])*devices) // from a placement: of expert f on device d, at f*devices+d
		for p, home := range lists[l].all {
			addGains(gain, rows, home, devices)
			before := stay[lists[l].like[p]]
			for _, q := range to.stand {
				sum := before
				for f, d := range to.all[q] {
					sum += gain[f*devices+int(d)]
				}
				if sum > best[q] {
					best[q], back[q] = sum, int32(p)
				}
			}
		}
		stay, from = best, append(from, back)
	}
	last := lists[len(lists)-1]
	at := last.stand[0]
	for _, q := range last.stand {
		if stay[q] > stay[at] {
			at = q
		}
	}
	return walkBack(lists, from, at, devices)
}

// walkBack follows the best way back from a placement of the last layer,
// renaming devices as it goes.
func walkBack(lists []*catalogue, from [][]int32, at int32, devices int) [][]int {
	names := make([]uint8, devices)
	for d := range names {
		names[d] = uint8(d)
	}
	homes := make([][]int, len(lists))
	for l := len(lists) - 1; l >= 0; l-- {
		for _, d := range lists[l].all[at] {
			homes[l] = append(homes[l], int(names[d]))
		}
		if l == 0 {
			break
		}
		renamed := make([]uint8, devices)
		for d, n := range lists[l].names[at] {
			renamed[d] = names[n]
		}
		names = renamed
		at = from[l-1][lists[l].like[at]]
	}
	return homes
}

// addGains sets gain to the transitions that would stay on each device.
func addGains(gain []int64, rows [][]int64, home []uint8, devices int) {
	clear(gain)
	for e, row := range rows {
		for f, c := range row {
			gain[f*devices+int(home[e])] += c
		}
	}
}
