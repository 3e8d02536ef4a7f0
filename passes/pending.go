package passes

import (
	"errors"

	"moec/ir"
)

// placePending refuses to place a graph.
func placePending(*Context, *ir.Graph) error {
	return errors.New("this build cannot place graphs")
}
