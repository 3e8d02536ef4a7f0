package compiler

import (
	"moec/dsl"
	"moec/ir/tensor"
	"moec/runtime/checkpoint"
)

// Bind returns the Env that binds a description to a checkpoint: settings
// from its config.json, unless set overrides them, and weights from the
// tensors that it has.
func Bind(files *checkpoint.Checkpoint, set map[string]string) dsl.Env {
	return dsl.Env{
		Config: config{files.Config()},
		Tensor: func(name string) (tensor.DType, []int, bool) {
			info, ok := files.Tensor(name)
			if !ok {
				return tensor.Invalid, nil, false
			}
			shape := make([]int, len(info.Shape))
			for i, d := range info.Shape {
				shape[i] = int(d)
			}
			return StoredType(info.DType), shape, true
		},
		Set: set,
	}
}

// storedTypes are the element types that weights are read in, as safetensors
// names them.
var storedTypes = map[string]tensor.DType{"BF16": tensor.BF16, "F16": tensor.F16, "F32": tensor.F32}

// StoredType returns the element type that safetensors calls so, or
// tensor.Invalid if weights are not read in it.
func StoredType(name string) tensor.DType { return storedTypes[name] }

// config is a checkpoint's config.json as a dsl.Config.
type config struct{ *checkpoint.Config }

// Lookup implements dsl.Config.
func (c config) Lookup(path string) (any, bool) {
	v, ok := c.Config.Lookup(path)
	if !ok {
		return nil, false
	}
	return plain(v), true
}

// object stands for a nested object, which no setting can be.
type object struct{}

// plain returns a value of config.json as dsl.Config gives it.
func plain(v checkpoint.Value) any {
	switch v.Kind() {
	case checkpoint.Bool:
		b, _ := v.Bool()
		return b
	case checkpoint.Number:
		if n, ok := v.Int(); ok {
			return n
		}
		x, _ := v.Float()
		return x
	case checkpoint.String:
		s, _ := v.Text()
		return s
	case checkpoint.Array:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = plain(v.Item(i))
		}
		return list
	case checkpoint.Object:
		return object{}
	}
	return nil
}
