package dsl

import (
	"strconv"

	"moec/ir/diag"
)

// Names that come with the language.
const (
	tokensName = "tokens" // the rows of a step, as an extent
	expertName = "expert" // the expert at hand, in the sources of its weights
)

// resolver checks the names of a file, also in blocks that no call reaches,
// and where statements stand.
type resolver struct {
	f      *File
	list   diag.List
	global names
}

// names are the names that are known somewhere, with where they come from.
type names map[string]diag.Pos

func (n names) all() []string {
	var list []string
	for name := range n {
		list = append(list, name)
	}
	return list
}

// resolve checks the names of f.
func resolve(f *File) diag.List {
	r := &resolver{f: f, global: names{}}
	for name := range elementTypes {
		r.global[name] = diag.Pos{}
	}
	declared(f.statements, r.global)
	seen := names{}
	for name := range elementTypes {
		seen[name] = diag.Pos{}
	}
	r.body(f.statements, seen, nil)
	return r.list
}

// declared collects what statements give a name to.
func declared(list []*statement, into names) {
	for _, st := range list {
		switch {
		case st.Setting != nil:
			into[st.Setting.Name.Text] = place(st.Setting.Name.Pos)
		case st.Weight != nil:
			into[st.Weight.Name.Text] = place(st.Weight.Name.Pos)
		case st.Bind != nil:
			into[st.Bind.Name.Text] = place(st.Bind.Name.Pos)
		case st.For != nil:
			into[st.For.Name.Text] = place(st.For.Name.Pos)
		}
		if st.Block == nil {
			declared(st.body, into)
			declared(st.orElse, into)
		}
	}
}

// body checks statements in order; seen grows by what they declare. within is
// the block, or nil at the top level.
func (r *resolver) body(list []*statement, seen names, within *blockStmt) {
	for _, st := range list {
		r.standing(st, within)
		if st.Block != nil {
			if within == nil {
				r.block(st)
			}
			continue
		}
		r.uses(st, seen, within)
		switch {
		case st.Setting != nil:
			r.setting(st.Setting, seen)
		case st.For != nil:
			r.name(st.For.Name)
			seen[st.For.Name.Text] = place(st.For.Name.Pos)
		case st.Weight != nil:
			r.name(st.Weight.Name)
			seen[st.Weight.Name.Text] = place(st.Weight.Name.Pos)
		case st.Bind != nil:
			r.name(st.Bind.Name)
		}
		r.body(st.body, seen, within)
		r.body(st.orElse, seen, within)
		if st.Bind != nil {
			seen[st.Bind.Name.Text] = place(st.Bind.Name.Pos)
		}
	}
}

// block checks the body of a block, which sees what the top level declares
// anywhere.
func (r *resolver) block(st *statement) {
	seen := names{}
	for name, at := range r.global {
		seen[name] = at
	}
	params := names{}
	for _, p := range st.Block.Params {
		n := p.Name
		r.name(n)
		if _, twice := params[n.Text]; twice {
			r.list.Addf(place(n.Pos), len(n.Text), "parameter %s is declared twice", n.Text)
		}
		params[n.Text], seen[n.Text] = place(n.Pos), place(n.Pos)
	}
	r.uses(st, seen, st.Block)
	r.body(st.body, seen, st.Block)
}

// uses checks the names that a statement uses, its body left out.
func (r *resolver) uses(st *statement, seen names, within *blockStmt) {
	st.expressions(func(e *expr) { r.expr(e.tree, seen, within) })
	for _, t := range st.types() {
		if t.DType != nil {
			r.use(nameNode{at(place(t.DType.Pos)), t.DType.Text}, seen, within)
		}
	}
}

// standing checks that a statement may stand where it does.
func (r *resolver) standing(st *statement, within *blockStmt) {
	at := place(st.Pos)
	top := st.Model != nil || st.Setting != nil || st.Expect != nil || st.Block != nil || st.Output != nil
	switch {
	case top && within != nil:
		r.list.Addf(at, 1, "this statement stands at the top level only, not in block %s", within.Name.Text)
	case st.Return != nil && within == nil:
		r.list.Addf(at, len("return"), "return stands in blocks only; the model's result is given by: %s", forms["output"])
	}
}

func (r *resolver) setting(s *settingStmt, seen names) {
	r.name(s.Name)
	if other, twice := seen[s.Name.Text]; twice && other != (diag.Pos{}) {
		d := diag.Diagnostic{Pos: place(s.Name.Pos), Width: len(s.Name.Text), Message: s.Name.Text + " is declared twice"}
		r.list.Add(d.Noted(other, "the other %s", s.Name.Text))
	}
	seen[s.Name.Text] = place(s.Name.Pos)
}

// name refuses the names that come with the language.
func (r *resolver) name(n name) {
	_, element := elementTypes[n.Text]
	if element || n.Text == tokensName || n.Text == expertName {
		r.list.Addf(place(n.Pos), len(n.Text), "%s is a name that comes with the language; choose another", n.Text)
	}
}

func (r *resolver) expr(n node, seen names, within *blockStmt) {
	eachNode(n, func(n node) {
		switch n := n.(type) {
		case nameNode:
			r.use(n, seen, within)
		case callNode:
			r.call(n)
		}
	})
}

// use checks a name that stands for a value.
func (r *resolver) use(n nameNode, seen names, within *blockStmt) {
	if n.name == tokensName || n.name == expertName {
		return // whether it fits is seen when it is evaluated
	}
	if _, ok := seen[n.name]; ok {
		return
	}
	at, w := n.pos(), len(n.name)
	if later, ok := r.global[n.name]; ok && within == nil {
		r.list.Addf(at, w, "%s is only declared below, on line %d", n.name, later.Line)
		return
	}
	if r.f.functions[n.name] != nil || r.f.blocks[n.name] != nil {
		r.list.Addf(at, w, "%s is a function; call it: %s(...)", n.name, n.name)
		return
	}
	r.list.Addf(at, w, "%s is not declared%s", n.name, didYouMean(n.name, append(seen.all(), tokensName, expertName)))
}

// call checks the name and the arguments of a call.
func (r *resolver) call(n callNode) {
	if b := r.f.functions[n.name]; b != nil {
		r.builtin(n, b)
	} else if st := r.f.blocks[n.name]; st != nil {
		r.args(n.name, n.pos(), n.args, paramsOf(st.Block, false))
		if n.through != nil {
			r.list.Addf(n.through.pos(), 1, "only route goes through a block")
		}
	} else {
		r.list.Addf(n.pos(), len(n.name), "no function or block is called %s%s", n.name, didYouMean(n.name, append(r.functionNames(), r.blockNames()...)))
	}
	if n.through == nil {
		return
	}
	t := n.through
	st := r.f.blocks[t.name]
	switch {
	case st == nil:
		r.list.Addf(t.pos(), len(t.name), "no block is called %s%s", t.name, didYouMean(t.name, r.blockNames()))
	case len(st.Block.Params) == 0:
		r.list.Addf(t.pos(), len(t.name), "block %s takes no tokens, so that none can be routed through it", t.name)
	default:
		r.args(t.name, t.pos(), t.args, paramsOf(st.Block, true))
	}
}

func (r *resolver) functionNames() []string {
	var list []string
	for name := range r.f.functions {
		list = append(list, name)
	}
	return list
}

func (r *resolver) blockNames() []string {
	var list []string
	for name := range r.f.blocks {
		list = append(list, name)
	}
	return list
}

// paramsOf lists a block's parameters; routed leaves out the first, which
// takes the tokens.
func paramsOf(b *blockStmt, routed bool) []parameter {
	var list []parameter
	for i, p := range b.Params {
		if i > 0 || !routed {
			list = append(list, parameter{name: p.Name.Text})
		}
	}
	return list
}

func (r *resolver) builtin(n callNode, b *function) {
	r.args(n.name, n.pos(), n.args, b.params)
	routes := n.name == routeName
	switch {
	case routes && n.through == nil:
		r.list.Addf(n.pos(), len(n.name), "route goes through a block: route(x, chosen, weights) through BLOCK")
	case !routes && n.through != nil:
		r.list.Addf(n.through.pos(), 1, "only route goes through a block")
	case !routes && n.scopes != nil:
		r.list.Addf(place(n.scopes.Pos), 2, "%s has no weights for at to find; at follows the call of a block, route and for", n.name)
	}
}

// args checks the arguments of a call against the parameters.
func (r *resolver) args(what string, at diag.Pos, args []argNode, params []parameter) {
	given := make(map[string]bool, len(args))
	byPlace := 0
	many := len(params) > 0 && params[0].many
	for _, a := range args {
		switch {
		case a.name == "" && many:
			given[params[0].name] = true
		case a.name == "" && byPlace >= len(params):
			r.list.Addf(a.at, 1, "%s takes %s, this is one more", what, countOf(len(params), "argument"))
		case a.name == "":
			given[params[byPlace].name] = true
			byPlace++
		case !hasParam(params, a.name):
			r.list.Addf(a.at, len(a.name), "%s has no argument %s%s", what, a.name, didYouMean(a.name, paramNames(params)))
		case given[a.name]:
			r.list.Addf(a.at, len(a.name), "argument %s of %s is given twice", a.name, what)
		default:
			given[a.name] = true
		}
	}
	for _, p := range params {
		if !p.optional && !given[p.name] {
			r.list.Addf(at, len(what), "%s lacks its argument %s; it takes (%s)", what, p.name, signature(params))
			return
		}
	}
}

func hasParam(params []parameter, name string) bool {
	for _, p := range params {
		if p.name == name {
			return true
		}
	}
	return false
}

func paramNames(params []parameter) []string {
	list := make([]string, len(params))
	for i, p := range params {
		list[i] = p.name
	}
	return list
}

// countOf prints "1 argument" or "2 arguments".
func countOf(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}
