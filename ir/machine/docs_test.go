package machine

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// TestPage parses the example of docs/machines.md, and checks that it has every
// field of the format and that the page explains each.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/machines.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "```json\n")
	example, after, closed := strings.Cut(rest, "```")
	if !ok || !closed {
		t.Fatal("the page has no example")
	}
	m, err := Parse("docs/machines.md", []byte(example))
	if err != nil {
		t.Fatal(err)
	}
	text, err := m.Format()
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != example {
		t.Errorf("the example is not laid out as files are:\n%s", text)
	}
	fields(t, example, reflect.TypeOf(*m))
	for _, row := range []string{"name", "doc", "devices", "measured", "links"} {
		explained(t, after, "", row)
	}
	for prefix, kind := range map[string]reflect.Type{"device.": reflect.TypeOf(m.Device), "links.": reflect.TypeOf(m.Links[0])} {
		for i := range kind.NumField() {
			explained(t, after, prefix, name(kind.Field(i)))
		}
	}
}

// fields checks that a text has every field of a type and of those in it.
func fields(t *testing.T, text string, kind reflect.Type) {
	switch kind.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		fields(t, text, kind.Elem())
	case reflect.Struct:
		for i := range kind.NumField() {
			f := kind.Field(i)
			if !strings.Contains(text, `"`+name(f)+`":`) {
				t.Errorf("the example has no %s", name(f))
			}
			fields(t, text, f.Type)
		}
	}
}

func name(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// explained checks that a field has a row in the table of the page.
func explained(t *testing.T, page, prefix, field string) {
	for line := range strings.Lines(page) {
		if cell, _, ok := strings.Cut(strings.TrimPrefix(line, "|"), " | "); ok && strings.Contains(cell, "`"+prefix+field+"`") {
			return
		}
	}
	t.Errorf("the page does not explain %s%s", prefix, field)
}
