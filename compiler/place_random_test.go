package compiler

import (
	"math/rand/v2"

	"moec/ir"
	"moec/ir/placement"
	"moec/passes"
)

// randomPlacement returns a placement of a logical graph on 1 to 5 devices.
func randomPlacement(rng *rand.Rand, g *ir.Graph) *placement.Placement {
	return placement.Random(rng, passes.Summarise(g), 1+rng.IntN(5))
}
