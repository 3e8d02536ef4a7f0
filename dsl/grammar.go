package dsl

import (
	"github.com/alecthomas/participle/v2"
	"github.com/alecthomas/participle/v2/lexer"
)

// The grammar has one production for each kind of statement. It needs one
// token of lookahead and never backtracks, so that the token an error names is
// the first that does not fit. Bodies are attached by the parser of the file.

// statement is one statement; exactly one field is set.
type statement struct {
	Pos     lexer.Position
	Model   *modelStmt   `parser:"  @@"`
	Setting *settingStmt `parser:"| @@"`
	Expect  *expectStmt  `parser:"| @@"`
	Require *requireStmt `parser:"| @@"`
	Block   *blockStmt   `parser:"| @@"`
	Weight  *weightStmt  `parser:"| @@"`
	Return  *returnStmt  `parser:"| @@"`
	If      *ifStmt      `parser:"| @@"`
	Else    *elseStmt    `parser:"| @@"`
	For     *forStmt     `parser:"| @@"`
	Output  *outputStmt  `parser:"| @@"`
	Bind    *bindStmt    `parser:"| @@"`

	body   []*statement
	orElse []*statement // of an if
	braced bool
	end    lexer.Position
}

// modelStmt: model mixtral "Mixtral of Experts, arXiv:2401.04088"
type modelStmt struct {
	Pos   lexer.Position
	Name  name    `parser:"'model' @@"`
	Title *string `parser:"@String?"`
}

// settingStmt: size head_dim = hidden / heads from head_dim | attention.head_dim
type settingStmt struct {
	Pos      lexer.Position
	Kind     string  `parser:"@('size' | 'count' | 'real' | 'flag' | 'text' | 'list' | 'type')"`
	Optional bool    `parser:"@'?'?"`
	Name     name    `parser:"@@"`
	Default  *expr   `parser:"'=' @@"`
	From     []*path `parser:"('from' @@ ('|' @@)*)?"`
}

// path is a key of config.json; dots lead into nested objects.
type path struct {
	Pos   lexer.Position
	Parts []string `parser:"@(Ident | Keyword) ('.' @(Ident | Keyword))*"`
}

// expectStmt: expect hidden_act = "silu" | "swish"
type expectStmt struct {
	Pos    lexer.Position
	Keys   []*path `parser:"'expect' @@ ('|' @@)*"`
	Values []*expr `parser:"'=' @@ ('|' @@)*"`
}

// requireStmt: require top_k <= experts, "more experts are chosen than there are"
type requireStmt struct {
	Pos    lexer.Position
	Cond   *expr  `parser:"'require' @@"`
	Reason string `parser:"',' @String"`
}

// blockStmt: block attention(x: [tokens, hidden]) -> [tokens, hidden]
type blockStmt struct {
	Pos    lexer.Position
	Name   name     `parser:"'block' @@"`
	Params []*param `parser:"'(' (@@ (',' @@)*)? ')'"`
	Result *typeRef `parser:"('->' @@)?"`
}

type param struct {
	Pos  lexer.Position
	Name name     `parser:"@@"`
	Type *typeRef `parser:"(':' @@)?"`
}

// typeRef is an element type, extents, both, or a kind of setting.
type typeRef struct {
	Pos   lexer.Position
	Kind  string   `parser:"(  @('size' | 'count' | 'real' | 'flag' | 'text' | 'list')"`
	DType *name    `parser:" | @@"`
	Shape *extents `parser:" | @@ )"`
	Of    *extents `parser:"@@?"`
}

type extents struct {
	Pos  lexer.Position
	Dims []*expr `parser:"'[' (@@ (',' @@)*)? ']'"`
}

// weightStmt: weight wq: [heads * head_dim, hidden] = "q_proj.weight" if biased
type weightStmt struct {
	Pos     lexer.Position
	Name    name      `parser:"'weight' @@"`
	Type    *typeRef  `parser:"':' @@"`
	Sources []*source `parser:"'=' @@ ('|' @@)*"`
	Cond    *expr     `parser:"('if' @@)?"`
}

// source: "experts.gate_up_proj"[expert, :ffn, :] of [experts, 2*ffn, hidden] transposed
type source struct {
	Pos        lexer.Position
	Key        string   `parser:"@String"`
	Index      *index   `parser:"@@?"`
	Stored     *extents `parser:"('of' @@)?"`
	Transposed bool     `parser:"@'transposed'?"`
}

type returnStmt struct {
	Pos   lexer.Position
	Value *expr `parser:"'return' @@"`
}

type ifStmt struct {
	Pos  lexer.Position
	Cond *expr `parser:"'if' @@"`
}

type elseStmt struct {
	Pos  lexer.Position
	Cond *expr `parser:"'else' ('if' @@)?"`
}

// forStmt: for layer in layers at "model.layers.{layer}"
type forStmt struct {
	Pos   lexer.Position
	Name  name    `parser:"'for' @@"`
	First *expr   `parser:"'in' @@"`
	End   *expr   `parser:"('..' @@)?"`
	At    *scopes `parser:"@@?"`
}

type scopes struct {
	Pos  lexer.Position
	Keys []scopeKey `parser:"'at' @@ ('|' @@)*"`
}

type scopeKey struct {
	Pos lexer.Position
	Key string `parser:"@String"`
}

// outputStmt: output logits = linear(x, head)
type outputStmt struct {
	Pos   lexer.Position
	Name  name  `parser:"'output' @@"`
	Value *expr `parser:"'=' @@"`
}

// bindStmt: p: f32 = softmax(scores)
type bindStmt struct {
	Pos   lexer.Position
	Name  name     `parser:"@@"`
	Type  *typeRef `parser:"(':' @@)?"`
	Value *expr    `parser:"'=' @@"`
}

type name struct {
	Pos  lexer.Position
	Text string `parser:"@Ident"`
}

// expr is a list of operands with operators between them; tree gives it
// structure by the binding strength of the operators.
type expr struct {
	Pos   lexer.Position
	First *operand    `parser:"@@"`
	Rest  []*operator `parser:"@@*"`
	If    *choice     `parser:"@@?"`

	tree node
}

type operator struct {
	Pos   lexer.Position
	Op    string   `parser:"@('or' | 'and' | '==' | '!=' | '<=' | '>=' | '<' | '>' | 'in' | '+' | '-' | '*' | '/' | '//' | '%' | '^' | 'not')"`
	In    bool     `parser:"@'in'?"`
	Right *operand `parser:"@@"`
}

// choice: value if condition else other
type choice struct {
	Pos  lexer.Position
	Cond *expr `parser:"'if' @@"`
	Else *expr `parser:"'else' @@"`
}

type operand struct {
	Pos    lexer.Position
	Prefix []prefix `parser:"@@*"`
	Base   *base    `parser:"@@"`
	Index  []*index `parser:"@@*"`
}

type prefix struct {
	Pos lexer.Position
	Op  string `parser:"@('-' | 'not')"`
}

type base struct {
	Pos    lexer.Position
	Int    *string `parser:"  @Int"`
	Real   *string `parser:"| @Real"`
	String *string `parser:"| @String"`
	Word   string  `parser:"| @('true' | 'false' | 'none')"`
	Use    *use    `parser:"| @@"`
	Paren  *expr   `parser:"| '(' @@ ')'"`
	List   *list   `parser:"| @@"`
}

// use is a name, or a call: route(x, chosen, w) through swiglu(ffn) at "experts.{expert}"
type use struct {
	Pos  lexer.Position
	Name string `parser:"@Ident"`
	Call *call  `parser:"@@?"`
}

type call struct {
	Pos     lexer.Position
	Args    []*arg  `parser:"'(' (@@ (',' @@)*)? ')'"`
	Through *target `parser:"('through' @@)?"`
	At      *scopes `parser:"@@?"`
}

type target struct {
	Pos  lexer.Position
	Name string `parser:"@Ident"`
	Args []*arg `parser:"('(' (@@ (',' @@)*)? ')')?"`
}

// arg is a value, or a name and a value; in the first case the name is empty.
type arg struct {
	Pos   lexer.Position
	First *expr `parser:"@@"`
	Named *expr `parser:"('=' @@)?"`
}

type list struct {
	Pos   lexer.Position
	Items []*expr `parser:"'[' (@@ (',' @@)*)? ']'"`
}

type index struct {
	Pos   lexer.Position
	Items []*indexItem `parser:"'[' @@ (',' @@)* ']'"`
}

// indexItem is i, lo:hi or lo:hi:step, any part of which may be missing.
type indexItem struct {
	Pos   lexer.Position
	Lo    *expr `parser:"(  @@ "`
	Range bool  `parser:"   ( @':'"`
	Hi    *expr `parser:"     @@?"`
	Step  *expr `parser:"     (':' @@)? )?"`
	Full  bool  `parser:" | @':'"`
	To    *expr `parser:"     @@?"`
	By    *expr `parser:"     (':' @@)? )"`
}

var parser = participle.MustBuild[statement](
	participle.Lexer(definition),
	participle.UseLookahead(0),
)

// tokenList is a lexer over tokens that are at hand.
type tokenList struct {
	tokens []lexer.Token
	end    lexer.Position
	at     int
}

// Next implements lexer.Lexer.
func (l *tokenList) Next() (lexer.Token, error) {
	if l.at == len(l.tokens) {
		return lexer.EOFToken(l.end), nil
	}
	l.at++
	return l.tokens[l.at-1], nil
}
