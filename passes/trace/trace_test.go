package trace

import (
	"errors"
	"strings"
	"testing"

	"moec/ir"
)

// graph returns a graph of that many nodes.
func graph(t *testing.T, nodes int) *ir.Graph {
	t.Helper()
	g := ir.NewGraph("g")
	for range nodes {
		n, err := g.Add(ir.Op("input"), nil, ir.MakeAttrs(ir.Attr{Name: "name", Value: "tokens"}), nil)
		if err != nil {
			t.Fatal(err)
		}
		g.Outputs = []ir.Output{{Name: "y", Value: n}}
	}
	return g
}

func TestText(t *testing.T) {
	one := ir.Print(graph(t, 1))
	two := ir.Print(graph(t, 2))
	diff := "@@ -1,4 +1,5 @@\n graph \"g\" logical {\n   %0 = input {name=\"tokens\"} : i32[T]\n-  output \"y\" = %0\n" +
		"+  %1 = input {name=\"tokens\"} : i32[T]\n+  output \"y\" = %1\n }\n"
	for _, c := range []struct{ show, want string }{
		{All, "# after input\n" + one + "# after a (unchanged)\n# after b\n" + two},
		{Changed, "# after a (unchanged)\n# after b\n--- a\n+++ b\n" + diff},
		{"b", "# after b\n" + two},
		{"c", ""},
	} {
		var out strings.Builder
		s := NewText(&out, c.show)
		for _, phase := range []struct {
			name  string
			nodes int
		}{{"input", 1}, {"a", 1}, {"b", 2}} {
			if err := s.Phase(phase.name, graph(t, phase.nodes)); err != nil {
				t.Fatal(err)
			}
		}
		if out.String() != c.want {
			t.Errorf("show %s:\n%s\nwant\n%s", c.show, out.String(), c.want)
		}
	}
}

type full struct{}

var errFull = errors.New("disk is full")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestTextReportsWriteErrors(t *testing.T) {
	if err := NewText(full{}, All).Phase("input", graph(t, 1)); !errors.Is(err, errFull) {
		t.Errorf("error is %v, want %v", err, errFull)
	}
}
