package balance

import "math"

// assign gives each expert a device such that the sum of gains,
// gain[e*devices+d] of expert e on device d, is the largest there is and
// devices get equal numbers of experts.
//
// It is the assignment problem with rooms for several: experts come one by
// one, and each takes the cheapest chain of moves that ends on a device with
// room, each expert of the chain making way for the one before.
func assign(gain []int64, devices int) []int {
	n := len(gain) / devices
	a := &assignment{gain: gain, devices: devices, home: make([]int, n), left: make([]int, devices),
		move: make([]int, devices*devices), cost: make([]int64, devices*devices)}
	for d := range a.left {
		a.left[d] = room(n, d, devices)
	}
	for e := range a.home {
		a.home[e] = -1
	}
	for e := range a.home {
		a.insert(e)
	}
	return a.home
}

type assignment struct {
	gain    []int64
	devices int
	home    []int // of each expert, -1 before it came
	left    []int // rooms of each device
	// move and cost say, for devices c and d at c*devices+d, which expert of c
	// loses the least by moving to d, and how much.
	move []int
	cost []int64
}

// far is the cost of a move that is not possible.
const far = math.MaxInt64 / 4

// insert gives expert e a device.
func (a *assignment) insert(e int) {
	a.moves()
	dist, prev := make([]int64, a.devices), make([]int, a.devices)
	for d := range dist {
		dist[d], prev[d] = -a.gain[e*a.devices+d], -1
	}
	// Bellman and Ford: there are no negative cycles, since what is placed is
	// placed best.
	for changed := true; changed; {
		changed = false
		for c := range a.devices {
			for d := range a.devices {
				if w := dist[c] + a.cost[c*a.devices+d]; w < dist[d] {
					dist[d], prev[d], changed = w, c, true
				}
			}
		}
	}
	end := -1
	for d, room := range a.left {
		if room > 0 && (end < 0 || dist[d] < dist[end]) {
			end = d
		}
	}
	a.left[end]--
	for d := end; ; d = prev[d] {
		if prev[d] < 0 {
			a.home[e] = d
			return
		}
		a.home[a.move[prev[d]*a.devices+d]] = d
	}
}

// moves finds the cheapest move between each two devices.
func (a *assignment) moves() {
	for i := range a.cost {
		a.cost[i], a.move[i] = far, -1
	}
	for e, c := range a.home {
		if c < 0 {
			continue
		}
		row := a.gain[e*a.devices : (e+1)*a.devices]
		for d, g := range row {
			if w := row[c] - g; d != c && w < a.cost[c*a.devices+d] {
				a.cost[c*a.devices+d], a.move[c*a.devices+d] = w, e
			}
		}
	}
}
