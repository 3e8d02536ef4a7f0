package machine

// Curve says what an op took where its price by the machine's figures was
// something else. Prices in between follow straight lines; outside, the ratio
// at the end is kept. A higher price never takes less.
type Curve struct {
	Op     string  `json:"op"`
	Source string  `json:"source"`
	Points []Point `json:"points"` // ascending
}

// Point is a measurement of an op in isolation.
type Point struct {
	Price int64 `json:"price_ps"` // by the machine's figures
	Took  int64 `json:"took_ps"`
}

// Correct returns what a price by the machine's figures becomes by the
// measurements of an op.
func (m *Machine) Correct(op string, price int64) int64 {
	for i := range m.Measured {
		if m.Measured[i].Op == op {
			return m.Measured[i].at(price)
		}
	}
	return price
}

func (c *Curve) at(price int64) int64 {
	first, last := c.Points[0], c.Points[len(c.Points)-1]
	switch {
	case price <= first.Price:
		return min(Scale(price, first.Took, first.Price), forever)
	case price >= last.Price:
		return min(Scale(price, last.Took, last.Price), forever)
	}
	before := first
	for _, p := range c.Points[1:] {
		if price < p.Price {
			return between(price, before.Price, p.Price, before.Took, p.Took)
		}
		before = p
	}
	return last.Took
}

// Least returns by how much, in parts of a million, measurements of an op can
// lower a price at most: what no price by the figures goes below.
func (m *Machine) Least(op string) int64 {
	least := int64(1e6)
	for i := range m.Measured {
		if m.Measured[i].Op == op {
			for j, p := range m.Measured[i].Points {
				if ratio := Scale(p.Took, 1e6, p.Price); j == 0 || ratio < least {
					least = ratio
				}
			}
		}
	}
	return least
}
