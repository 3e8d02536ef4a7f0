package prove

import (
	"moec/ir/tensor"
	"moec/ir/tree"
)

// array is a value: numbers of the field, or the integers of an i32 list,
// row-major. It is not changed once it is made, so that views share it.
type array struct {
	dtype tensor.DType
	dims  []int
	data  []uint64
	cache *cache // of a kv_append or a cache operand, instead of data
	// spans are the subtrees whose sums the entries of the first axis are, of
	// a sum of so many leaves; nil if this is no part of a sum.
	spans  []tree.Span
	leaves int

	// When meanings are followed instead of numbers: what it holds, nil if it
	// is undefined because of lost.
	means *means
	lost  uint64
}

func newArray(d tensor.DType, dims []int) *array {
	return &array{dtype: d, dims: dims, data: make([]uint64, volume(dims))}
}

// as returns the same elements under other extents.
func (a *array) as(dims []int) *array {
	b := *a
	b.dims = dims
	return &b
}

func volume(dims []int) int {
	n := 1
	for _, d := range dims {
		n *= d
	}
	return n
}

// last returns the innermost extent.
func (a *array) last() int {
	if len(a.dims) == 0 {
		return 1
	}
	return a.dims[len(a.dims)-1]
}

// rows returns how many rows along the last axis there are.
func (a *array) rows() int {
	if len(a.dims) == 0 {
		return 1
	}
	return volume(a.dims[:len(a.dims)-1])
}

// row returns row i along the last axis.
func (a *array) row(i int) []uint64 {
	n := a.last()
	return a.data[i*n : (i+1)*n]
}

// around returns the product of the extents before an axis and of those after.
func (a *array) around(axis int) (outer, inner int) {
	return volume(a.dims[:axis]), volume(a.dims[axis+1:])
}

// cache is the KV state of one attention layer, or what a device keeps of it:
// for each place, heads times a key and a value.
type cache struct {
	heads, keyDim, valDim int
	places                map[int][]uint64

	of    *class // what is stored, when meanings are followed
	first int    // and the number of its first head
}

func newCache(heads, keyDim, valDim int) *cache {
	return &cache{heads: heads, keyDim: keyDim, valDim: valDim, places: make(map[int][]uint64)}
}

func (c *cache) width() int { return c.keyDim + c.valDim }
