package strictjson

// Members is a small object read as bookmarks, for objects whose members are
// wanted by name and in no particular order.
type Members struct {
	owner Reader // stands before the object, for errors about missing members
	names []string
	at    map[string]Reader
}

// Members reads an object and keeps a bookmark for each member. Names repeated
// inside a member are found when that member is read.
func (r *Reader) Members() (*Members, error) {
	r.Peek()
	m := &Members{owner: *r, at: make(map[string]Reader)}
	m.owner.last = r.pos
	err := r.Object(func(name string) error {
		m.names = append(m.names, name)
		r.space()
		m.at[name] = *r
		return r.Pass()
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Names returns the members' names in the order written.
func (m *Members) Names() []string { return m.names }

// Errorf returns an Error at the object's beginning.
func (m *Members) Errorf(format string, args ...any) error {
	return m.owner.Errorf(format, args...)
}

// Get returns a Reader before the named member's value, or false if the member
// is absent or null.
func (m *Members) Get(name string) (*Reader, bool) {
	at, ok := m.at[name]
	if !ok || at.Peek() == Null {
		return nil, false
	}
	return &at, true
}

// Need is Get for a member that must be there.
func (m *Members) Need(name string) (*Reader, error) {
	at, ok := m.Get(name)
	if !ok {
		return nil, m.Errorf("%q is missing", name)
	}
	return at, nil
}

// String returns the named string, or fallback if it is absent or null.
func (m *Members) String(name, fallback string) (string, error) {
	if at, ok := m.Get(name); ok {
		return within(name, at, at.String)
	}
	return fallback, nil
}

// Int returns the named integer, or fallback if it is absent or null.
func (m *Members) Int(name string, fallback int64) (int64, error) {
	if at, ok := m.Get(name); ok {
		return within(name, at, at.Int)
	}
	return fallback, nil
}

// Bool returns the named truth value, or fallback if it is absent or null.
func (m *Members) Bool(name string, fallback bool) (bool, error) {
	if at, ok := m.Get(name); ok {
		return within(name, at, at.Bool)
	}
	return fallback, nil
}

// within reads a value and puts the member's name before its error.
func within[T any](name string, at *Reader, read func() (T, error)) (T, error) {
	value, err := read()
	if fault, ok := err.(*Error); ok {
		fault.Problem = name + ": " + fault.Problem
	}
	return value, err
}
