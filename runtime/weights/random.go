package weights

import (
	"encoding/binary"
	"hash/fnv"
	"math"

	"moec/ir/arith"
	"moec/ir/tensor"
	"moec/planner/plan"
)

// Random is the Source of random weights for trying a plan without a
// checkpoint. An element depends on the seed, the weight's name and its index
// in the whole weight, so every placement gets the same model. Vectors lie
// around 1 (they are mostly norms), matrices have the scale that keeps the
// variance of what they multiply.
type Random struct{ Seed uint64 }

// Read implements Source.
func (r Random) Read(p plan.Part, d tensor.DType, layer int, dst []byte) error {
	key := r.Key(p, layer)
	width := len(p.Slice)
	slice := p.Slice
	fan := p.Shape[width-1]
	strides := make([]uint64, width)
	stride := uint64(1)
	for i := width - 1; i >= 0; i-- {
		strides[i] = stride
		stride *= uint64(p.Shape[i])
	}
	index := make([]int, width)
	counts := p.Extents()
	size := d.Bytes()
	for at := 0; at < len(dst); at += size {
		var flat uint64
		for i := range index {
			k := slice[i][0] + index[i]
			if i == 0 && p.Experts != nil {
				k = p.Experts[index[0]]
			}
			flat += uint64(k) * strides[i]
		}
		put(dst[at:at+size], value(key, flat, fan, width), d)
		for i := width - 1; i >= 0; i-- {
			if index[i]++; index[i] < counts[i] {
				break
			}
			index[i] = 0
		}
	}
	return nil
}

// Key is what the numbers of a weight depend on besides their index.
func (r Random) Key(p plan.Part, layer int) uint64 {
	h := fnv.New64a()
	h.Write([]byte(Name(p, layer)))
	return h.Sum64() ^ mix(r.Seed)
}

// Scale is the largest number of a matrix with rows of so many entries.
func Scale(fan int) float64 { return math.Sqrt(3 / float64(fan)) }

// value is uniform: 1 +- 0.1 for vectors, else of variance 1/fan.
func value(key, index uint64, fan, rank int) float32 {
	u := 2*float64(mix(key+index*0x9e3779b97f4a7c15)>>11)/(1<<53) - 1
	if rank == 1 {
		return float32(1 + 0.1*u)
	}
	return float32(u * Scale(fan))
}

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func put(dst []byte, v float32, d tensor.DType) {
	switch d {
	case tensor.BF16:
		binary.LittleEndian.PutUint16(dst, arith.ToBF16(v))
	case tensor.F16:
		binary.LittleEndian.PutUint16(dst, arith.ToF16(v))
	default:
		binary.LittleEndian.PutUint32(dst, math.Float32bits(v))
	}
}
