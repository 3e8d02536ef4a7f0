package cost

import (
	"fmt"

	"moec/ir"
)

// weightKey tells apart the slices of weights that devices hold.
func weightKey(n *ir.Node) string {
	return fmt.Sprint(n.Device, n.Attrs.Text("name"), n.Attrs.Sets("slice"), n.Attrs.Ints("experts"))
}
