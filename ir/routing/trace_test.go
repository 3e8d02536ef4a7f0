package routing

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"
)

// small is a trace of three tokens through two layers.
const small = `{"experts": 3, "top_k": 2, "layers": 2, "tokens": 3,
 "per_layer": [
  {"counts": [3, 2, 1], "co_activation": [[0, 2, 1], [2, 0, 0], [1, 0, 0]]},
  {"counts": [2, 2, 2], "co_activation": [[0, 1, 1], [1, 0, 1], [1, 1, 0]]}],
 "transitions": [
  [[2, 2, 2], [2, 1, 1], [0, 1, 1]]],
 "sample": [
  {"id": 4, "experts": [[0, 1], [1, 0]]}]}`

// TestTraceErrors changes one thing of a good trace at a time.
func TestTraceErrors(t *testing.T) {
	if _, err := ParseTrace("t.json", []byte(small), shapes(2, 3, 2)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, want string }{
		{`{"experts"`, `{"experts`, "t.json:1: is not a trace: invalid character"},
		{`[[1, 0]`, `[["1", 0]`, ""},
		{"[0, 1], [1, 0]]}]}", "[0, 1], [1, 0]]}]} x", "t.json:8: there is text after the end"},
		{"[0, 1], [1, 0]]}]}", "[0, 1], [1,", "t.json:8: is not a trace: it ends too early"},
		{`"tokens": 3`, `"tokens": "3"`, "t.json:1: tokens: need a int64, have a string"},
		{`"tokens": 3`, `"tokens": 0`, "tokens: need 1 to 1099511627776, have 0"},
		{`"tokens": 3`, `"tokens": 4`, "per_layer[0].counts: need a sum of 8, 2 for each of 4 tokens, have 6"},
		{`"layers": 2`, `"layers": 3`, "per_layer: need an entry for each of 3 layers, have 2"},
		{`{"experts": 3`, `{"experts": 4`, "per_layer[0]: layer 1 of the model chooses 2 of 3 experts, the trace has 2 of 4"},
		{`"top_k": 2`, `"top_k": 1`, "layer 1 of the model chooses 2 of 3 experts, the trace has 1 of 3"},
		{`{"counts": [2`, `{"experts": 3, "top_k": 1, "counts": [2`, "per_layer[1]: layer 3 of the model chooses 2 of 3 experts, the trace has 1 of 3"},
		{"[3, 2, 1]", "[3, 2, 1, 0]", "per_layer[0].counts: need 3 numbers, have 4"},
		{"[3, 2, 1]", "[4, 2, 0]", "expert 0: need 0 to 3, the tokens, have 4"},
		{"[3, 2, 1]", "[3, 4, -1]", "expert 1: need 0 to 3, the tokens, have 4"},
		{"[[0, 2, 1], [2", "[[0, 1, 2], [2", "co_activation: experts 0 and 1: need the same count both ways and 0 of an expert with itself, have 1 and 2"},
		{"[[0, 2, 1], [2", "[[0, 2, 0], [2", "co_activation: row 0: need a sum of 3, 1 for each of its 3 tokens, have 2"},
		{"[[0, 2, 1], [2", "[[0, 2], [2", "co_activation: row 0: need 3 numbers, have 2"},
		{"[1, 0, 0]]", "[1, 0, 0], []]", "co_activation: need 3 rows, have 4"},
		{"[0, 1, 1]]]", "[0, 1, 1]], []]", "transitions: need 1 tables, one between each two layers, have 2"},
		{"[2, 1, 1], [0, 1, 1]", "[2, 1, 1], [0, 2, 0]", "transitions[0]: column 1: need a sum of 4, 2 for each of its 2 tokens, have 5"},
		{"[[2, 2, 2], [2", "[[2, 2, 9], [2", "transitions[0]: row 0, column 2: need 0 to 3, the tokens, have 9"},
		{"[[0, 1], [1, 0]]}", "[[0, 1]]}", "sample[0].experts: need the choices of 2 layers, have 1"},
		{"[[0, 1], [1, 0]]}", "[[0, 1], [1]]}", "sample[0].experts[1]: need 2 experts, have 1"},
		{"[[0, 1], [1, 0]]}", "[[0, 1], [1, 3]]}", "need experts from 0 to 2, have 3"},
		{"[[0, 1], [1, 0]]}", "[[0, 1], [1, 1]]}", "need different experts, have 1 twice"},
	} {
		if c.want == "" {
			continue
		}
		text := strings.Replace(small, c.old, c.new, 1)
		if text == small {
			t.Fatalf("%q is not in the trace", c.old)
		}
		// A layer without experts shows in the numbers of layers.
		sh := []Shape{{}, {3, 2}, {}, {3, 2}}
		if _, err := ParseTrace("t.json", []byte(text), sh); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s for %s: %v, want %q", c.new, c.old, err, c.want)
		}
	}
	_, err := ParseTrace("t.json", []byte(small), shapes(4, 3, 2))
	if want := "t.json: layers: the model has 4 layers with experts, the trace has 2; record one with moec run --record-routing FILE"; err == nil || err.Error() != want {
		t.Errorf("have %v, want %s", err, want)
	}
}

// TestRecorder writes what it was given and reads it again.
func TestRecorder(t *testing.T) {
	sh := []Shape{{}, {6, 2}, {5, 3}, {}, {6, 2}}
	s := PowerLaw(sh, 1, 3)
	walk := s.Walk(4, 2*SampleTokens)
	r, err := NewRecorder(sh)
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]int32, len(walk[1])/2)
	for first := 0; first < len(ids); first += 100 {
		last := min(first+100, len(ids))
		chosen := make([][]int32, len(sh))
		for l, k := range []int{0, 2, 3, 0, 2} {
			for _, e := range walk[l][first*k : last*k] {
				chosen[l] = append(chosen[l], int32(e))
			}
		}
		if first == 100 { // two tokens that a layer did not choose for
			chosen[4][0], chosen[4][1], chosen[1][4], chosen[1][5] = -1, -1, -1, -1
		}
		if err := r.Add(ids[first:last], chosen); err != nil {
			t.Fatal(err)
		}
	}
	if added, skipped := r.Tokens(); added != int64(len(ids)-2) || skipped != 2 {
		t.Errorf("%d tokens, %d skipped", added, skipped)
	}
	var b, again bytes.Buffer
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	if err := r.Write(&again); err != nil || !bytes.Equal(b.Bytes(), again.Bytes()) {
		t.Errorf("the same counts give another text: %v", err)
	}
	back, err := ParseTrace("t.json", b.Bytes(), sh)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back.Layers[2].Pairs, r.layers[1].pairs) || !reflect.DeepEqual(back.Layers[1].Next, r.layers[0].next) || !reflect.DeepEqual(back.Layers[4].Weight, r.layers[2].counts) {
		t.Error("other counts came back")
	}
	if n := len(back.Sample()[2]); n != 3*SampleTokens || back.Sample()[2][17] != walk[2][17] || back.Sample()[0] != nil {
		t.Errorf("the sample has %d choices in layer 2", n)
	}
	if _, err := ParseTrace("t.json", b.Bytes(), []Shape{{6, 2}, {5, 2}, {6, 2}}); err == nil {
		t.Error("read for a model of another shape")
	}
}

// TestRecorderRefuses what no run gives.
func TestRecorderRefuses(t *testing.T) {
	if _, err := NewRecorder(make([]Shape, 3)); err == nil || !strings.Contains(err.Error(), "none of the model's 3 layers") {
		t.Errorf("a model without experts: %v", err)
	}
	r, err := NewRecorder(shapes(2, 3, 1))
	if err != nil {
		t.Fatal(err)
	}
	for _, chosen := range [][][]int32{{{1}}, {{1}, {}}, {{1}, {3}}, {{-2}, {1}}} {
		if err := r.Add([]int32{5}, chosen); err == nil {
			t.Errorf("took %v", chosen)
		}
	}
	if err := r.Write(&bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "nothing to write") {
		t.Errorf("wrote nothing: %v", err)
	}
}

// FuzzTrace: no text makes the reader panic, and what it accepts can be drawn
// from.
func FuzzTrace(f *testing.F) {
	f.Add([]byte(small))
	f.Add([]byte(strings.Replace(small, "co_activation", "co", 2)))
	f.Add([]byte(`{"experts": 3, "top_k": 2, "layers": 2, "tokens": 1, "per_layer": [{"counts": [1,1,0]}, {"counts": [0,1,1]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseTrace("t.json", text, []Shape{{3, 2}, {}, {3, 2}})
		if err != nil {
			if !strings.HasPrefix(err.Error(), "t.json") {
				t.Errorf("%v does not name the file", err)
			}
			return
		}
		walk := s.Walk(1, 20)
		homes := [][]int{{0, 1, 0}, nil, {1, 0, 1}}
		if h, p := s.Hops(walk, homes, 2), s.PairHops(homes); h < 0 || h > 1 || p < 0 || p > 1 {
			t.Errorf("%v and %v hops between two layers", h, p)
		}
		for l := range s.Layers {
			s.Draw(1, l, 20, 0)
		}
	})
}

// TestExampleTrace pins what the example's trace says.
func TestExampleTrace(t *testing.T) {
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseTrace(example, text, shapes(4, 8, 2))
	if err != nil {
		t.Fatal(err)
	}
	if s.Layers[3].Weight[1] != 17044 || s.Layers[0].Pairs[2][4] != 4821 || s.Layers[0].Next[0][0] != 4492 || s.Layers[3].Next != nil {
		t.Error("other numbers than the file's")
	}
}
