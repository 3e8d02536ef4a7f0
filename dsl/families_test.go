package dsl_test

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"moec/dsl"
	"moec/ir"
	"moec/ir/eval"
	"moec/ir/tensor"
)

// parityLimit bounds the distance of logits from those that transformers
// computes in f32; the logits have a standard deviation of about 1.
const parityLimit = 2e-5

// TestFamilies binds every description to the tiny checkpoints of its family
// and compares logits with those of the transformers library.
func TestFamilies(t *testing.T) {
	dirs, err := filepath.Glob("../testdata/families/*/golden.safetensors")
	if err != nil || len(dirs) == 0 {
		t.Fatal("no checkpoints found", err)
	}
	for _, golden := range dirs {
		dir := filepath.Dir(golden)
		t.Run(filepath.Base(dir), func(t *testing.T) { checkFamily(t, dir, readTensors(t, golden)) })
	}
}

func checkFamily(t *testing.T, dir string, golden tensors) {
	config := readConfig(t, filepath.Join(dir, "config.json"))
	stored := readTensors(t, filepath.Join(dir, "model*.safetensors"))
	family, _ := config["model_type"].(string)
	m := build(t, family, dsl.Env{Config: config, Tensor: stored.tensor})
	if err := ir.Verify(m.Graph); err != nil {
		t.Fatal(err)
	}
	weights := eval.Arrays{}
	for _, w := range m.Graph.Weights {
		weights[w.Name] = eval.Array{Shape: w.Shape, Data: stored.load(t, w)}
	}
	step := &eval.Step{}
	var want []float32
	for i, name := range []string{"prompt.0", "prompt.1"} {
		step.Spans = append(step.Spans, eval.Span{Sequence: int32(i), Tokens: golden[name+".ids"].ints})
		want = append(want, golden[name+".logits"].floats...)
	}
	out, err := eval.Run(m.Graph, step, weights, eval.NewState())
	if err != nil {
		t.Fatal(err)
	}
	got := out[eval.Output{Name: "logits"}].F
	if len(got) != len(want) {
		t.Fatalf("%d logits, want %d", len(got), len(want))
	}
	worst := 0.0
	for i := range want {
		worst = max(worst, math.Abs(float64(got[i])-float64(want[i])))
	}
	t.Logf("largest difference %.2g", worst)
	if !(worst <= parityLimit) {
		t.Errorf("logits differ by %.3g from the library's, want at most %g", worst, parityLimit)
	}
}

// build binds a description of examples/.
func build(t testing.TB, name string, env dsl.Env) *dsl.Model {
	t.Helper()
	file := name + ".moe"
	src, err := os.ReadFile(filepath.Join("..", "examples", file))
	if err != nil {
		t.Fatal(err)
	}
	f, list := dsl.Parse(file, src)
	if err := list.Err(); err != nil {
		t.Fatal(err)
	}
	m, list := dsl.Build(f, env)
	if err := list.Err(); err != nil {
		t.Fatal(err)
	}
	return m
}

// config is a config.json.
type config map[string]any

// Lookup implements dsl.Config.
func (c config) Lookup(path string) (any, bool) {
	var v any = map[string]any(c)
	for key := range strings.SplitSeq(path, ".") {
		object, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = object[key]; !ok {
			return nil, false
		}
	}
	return v, true
}

func readConfig(t *testing.T, path string) config {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.UseNumber()
	if err := d.Decode(&c); err != nil {
		t.Fatal(err)
	}
	return config(plainNumbers(c).(map[string]any))
}

// plainNumbers turns the numbers of a JSON text into int64 and float64.
func plainNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		x, _ := v.Float64()
		return x
	case []any:
		for i := range v {
			v[i] = plainNumbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = plainNumbers(v[k])
		}
	}
	return v
}

// stored is a tensor of a safetensors file.
type stored struct {
	dtype  tensor.DType
	shape  []int
	floats []float32
	ints   []int32
}

type tensors map[string]stored

// readTensors reads small files of f32 and i32 tensors whole.
func readTensors(t *testing.T, pattern string) tensors {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no %s: %v", pattern, err)
	}
	out := tensors{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n := binary.LittleEndian.Uint64(data)
		var header map[string]struct {
			DType   string `json:"dtype"`
			Shape   []int  `json:"shape"`
			Offsets [2]int `json:"data_offsets"`
		}
		if err := json.Unmarshal(trimMetadata(t, data[8:8+n]), &header); err != nil {
			t.Fatal(err)
		}
		for name, h := range header {
			s := stored{shape: h.Shape, dtype: map[string]tensor.DType{"F32": tensor.F32, "I32": tensor.I32}[h.DType]}
			body := data[8+n:][h.Offsets[0]:h.Offsets[1]]
			for ; len(body) > 0; body = body[4:] {
				bits := binary.LittleEndian.Uint32(body)
				s.floats, s.ints = append(s.floats, math.Float32frombits(bits)), append(s.ints, int32(bits))
			}
			out[name] = s
		}
	}
	return out
}

func trimMetadata(t *testing.T, header []byte) []byte {
	t.Helper()
	var all map[string]json.RawMessage
	if err := json.Unmarshal(header, &all); err != nil {
		t.Fatal(err)
	}
	delete(all, "__metadata__")
	out, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// tensor is a dsl.Env's Tensor.
func (ts tensors) tensor(name string) (tensor.DType, []int, bool) {
	s, ok := ts[name]
	return s.dtype, s.shape, ok
}

// load assembles a weight by its source.
func (ts tensors) load(t *testing.T, w *ir.Weight) []float32 {
	t.Helper()
	if w.Experts == 0 {
		return ts.view(t, w, 0)
	}
	var out []float32
	for e := range w.Experts {
		out = append(out, ts.view(t, w, e)...)
	}
	return out
}

// view reads the part of a stored tensor that a weight is, for one expert.
func (ts tensors) view(t *testing.T, w *ir.Weight, expert int) []float32 {
	t.Helper()
	s, ok := ts[w.Source.KeyFor(w.Layer, expert)]
	if !ok {
		t.Fatalf("no tensor for weight %s", w.Name)
	}
	picks := make([][]int, len(s.shape))
	for i, a := range w.Source.View {
		if a.Expert {
			picks[i] = []int{expert}
			continue
		}
		for at := a.Lo; at < a.Hi; at += a.Step {
			picks[i] = append(picks[i], at)
		}
	}
	data := pick(s.floats, s.shape, picks)
	if w.Source.Transposed {
		rows, cols := len(picks[len(picks)-2]), len(picks[len(picks)-1])
		data = transpose(data, rows, cols)
	}
	return data
}

// pick gathers entries axis by axis.
func pick(data []float32, shape []int, picks [][]int) []float32 {
	if len(shape) == 0 {
		return data
	}
	inner := len(data) / shape[0]
	var out []float32
	for _, i := range picks[0] {
		out = append(out, pick(data[i*inner:(i+1)*inner], shape[1:], picks[1:])...)
	}
	return out
}

func transpose(data []float32, rows, cols int) []float32 {
	out := make([]float32, len(data))
	for r := range rows {
		for c := range cols {
			out[c*rows+r] = data[r*cols+c]
		}
	}
	return out
}
