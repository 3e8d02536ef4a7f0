package passes

import (
	"testing"

	"moec/ir"
)

func sameBits(t *testing.T, name string, before, after *ir.Graph) { t.Helper() }
