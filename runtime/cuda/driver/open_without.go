//go:build !cuda || !cgo

package driver

import "fmt"

// Open reports that this binary has no CUDA layer.
func Open() (Driver, error) {
	return nil, fmt.Errorf("%w; rebuild with \"make build-cuda\" (a C compiler is needed, a GPU or driver is not)", ErrNotBuilt)
}
