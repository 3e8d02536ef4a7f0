//go:build !cuda || !cgo

package driver

import (
	"errors"
	"strings"
	"testing"
)

func TestOpenWithoutTag(t *testing.T) {
	d, err := Open()
	if d != nil || !errors.Is(err, ErrNotBuilt) || !strings.Contains(err.Error(), "rebuild with \"make build-cuda\"") {
		t.Errorf("driver %v, error %v", d, err)
	}
}
