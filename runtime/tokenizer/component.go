package tokenizer

import (
	"slices"
	"strings"

	"moec/runtime/tokenizer/strictjson"
)

// maxNesting is how deep sequences of components may hold each other; real
// files use one level.
const maxNesting = 8

// kinds is the table of one sort of component, by the "type" in the file. To
// read a new type, add a row.
type kinds[T any] struct {
	sort   string // what the file calls the sort
	member string // where a Sequence of the sort keeps its list
	rows   map[string]func(*strictjson.Members) (T, error)
}

// read reads one component as the list of those that it consists of: one, or
// those of a Sequence.
func (k *kinds[T]) read(r *strictjson.Reader, depth int) ([]T, error) {
	m, err := r.Members()
	if err != nil {
		return nil, err
	}
	kind, err := m.String("type", "")
	if err != nil {
		return nil, err
	}
	if kind == "Sequence" {
		return k.sequence(m, depth)
	}
	row, ok := k.rows[kind]
	if !ok {
		return nil, m.Errorf("%s: the type %.60q is not known; known are Sequence, %s", k.sort, kind, strings.Join(k.names(), ", "))
	}
	component, err := row(m)
	if err != nil {
		return nil, err
	}
	return []T{component}, nil
}

func (k *kinds[T]) sequence(m *strictjson.Members, depth int) ([]T, error) {
	if depth == maxNesting {
		return nil, m.Errorf("%s: sequences are nested deeper than %d levels; flatten them", k.sort, maxNesting)
	}
	list, err := m.Need(k.member)
	if err != nil {
		return nil, err
	}
	var all []T
	err = list.Array(func(int) error {
		part, err := k.read(list, depth+1)
		all = append(all, part...)
		return err
	})
	return all, err
}

func (k *kinds[T]) names() []string {
	var names []string
	for name := range k.rows {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
