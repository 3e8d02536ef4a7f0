package balance

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

// exflow is a made-up solution in ExFlow's form, with the line ends that
// Python's csv writes.
const exflow = "Expert,Node\r\n0,1\r\n1,0\r\n2,0\r\n3,1\r\n"

// TestExFlow reads a solution, and says what is wrong with others.
func TestExFlow(t *testing.T) {
	homes, err := ParseExFlow("s.csv", []byte(exflow), 2, 2, 2)
	if want := [][]int{{1, 0}, {0, 1}}; err != nil || !reflect.DeepEqual(homes, want) {
		t.Fatalf("have %v, %v, want %v", homes, err, want)
	}
	back := FormatExFlow(homes)
	if again, err := ParseExFlow("s.csv", back, 2, 2, 2); err != nil || !reflect.DeepEqual(again, homes) {
		t.Errorf("%s: %v, %v", back, again, err)
	}
	for _, c := range []struct{ old, new, want string }{
		{"Expert,Node", "expert;node", `s.csv:1: need the line "Expert,Node", have "expert;node"; give a file`},
		{"3,1\r\n", "", "s.csv: need a line for each of 4 experts, 2 in each of 2 layers, have 3"},
		{"3,1", "3;1", "s.csv:5: need two numbers with a comma between"},
		{"3,1", "x,1", "s.csv:5: need two numbers"},
		{"3,1", "4,1", "s.csv:5: need an expert from 0 to 3, have 4"},
		{"3,1", "3,2", "s.csv:5: need a device from 0 to 1, have 2"},
		{"3,1", "2,1", "s.csv:5: expert 2 is listed twice"},
	} {
		if _, err := ParseExFlow("s.csv", []byte(strings.Replace(exflow, c.old, c.new, 1)), 2, 2, 2); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.new, err, c.want)
		}
	}
	if _, err := ParseExFlow("s.csv", nil, 0, 2, 2); err == nil {
		t.Error("read for a model without layers")
	}
}

// TestMixtralSolution reads a solution of the size of ExFlow's for Mixtral.
func TestMixtralSolution(t *testing.T) {
	var homes [][]int
	for l := range 32 {
		h := contiguous(8, 4)
		homes = append(homes, append(h[l%8:], h[:l%8]...))
	}
	text := FormatExFlow(homes)
	if n := bytes.Count(text, []byte("\n")); n != 257 {
		t.Errorf("%d lines, want 257", n)
	}
	if back, err := ParseExFlow("m.csv", text, 32, 8, 4); err != nil || !reflect.DeepEqual(back, homes) {
		t.Errorf("have %v, %v", back, err)
	}
}

// TestLayouts reads what EPLB prints, and says what is wrong with others.
func TestLayouts(t *testing.T) {
	want := [][]int{{1, 0, 1, 2}, {0, 2, None, 1}}
	for _, text := range []string{
		"[[1, 0, 1, 2], [0, 2, -1, 1]]", "tensor([[ 1,  0,  1,  2],\n        [ 0,  2, -1,  1]])\n", string(FormatLayouts(want)),
	} {
		have, err := ParseLayouts("p", []byte(text), 2, 3, 2)
		if err != nil || !reflect.DeepEqual(have, want) {
			t.Errorf("%s: have %v, %v", text, have, err)
		}
	}
	for _, c := range []struct{ text, want string }{
		{"", "p:1: is not a list of lists of numbers: it ends too early"},
		{"[[1, 0, 1, 2],\n [0, 2, ...]]", "p:2: is not a list of lists of numbers: invalid character"},
		{"[[1, 0, 1, 2],\n [0, 2, 1.5, 1]]", "p:2: is not a list of lists of numbers: cannot unmarshal"},
		{"[[1, 0, 1, 2]] x", "p:1: is not a list of lists of numbers: there is text after the lists"},
		{"[[1, 0, 1, 2]]", "p: need slots of 2 layers with experts, have 1"},
		{"[[1, 0, 2], [1, 0, 2]]", "p: layer 0: need the same number of slots on each of 2 devices, have 3 in all"},
		{"[[1, 0, 1, 2], []]", "layer 1: need the same number"},
		{"[[1, 0, 1, 3], [0, 2, -1, 1]]", "layer 0, slot 3: need an expert from 0 to 2, or -1 for none, have 3"},
		{"[[1, 0, 1, 1], [0, 2, -1, 1]]", "layer 0: expert 2 has no slot"},
	} {
		if _, err := ParseLayouts("p", []byte(c.text), 2, 3, 2); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.text, err, c.want)
		}
	}
}

// FuzzFiles: no text makes a reader panic, and what is accepted is written
// again the same.
func FuzzFiles(f *testing.F) {
	f.Add([]byte(exflow))
	f.Add([]byte("[[1, 0, 1, 2], [0, 2, -1, 1]]"))
	f.Add([]byte("tensor([[1, 0]])"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if homes, err := ParseExFlow("s", text, 2, 2, 2); err == nil {
			if back, err := ParseExFlow("s", FormatExFlow(homes), 2, 2, 2); err != nil || !reflect.DeepEqual(homes, back) {
				t.Errorf("%v became %v, %v", homes, back, err)
			}
		}
		if layouts, err := ParseLayouts("p", text, 2, 3, 2); err == nil {
			if back, err := ParseLayouts("p", FormatLayouts(layouts), 2, 3, 2); err != nil || !reflect.DeepEqual(layouts, back) {
				t.Errorf("%v became %v, %v", layouts, back, err)
			}
		}
	})
}
