package jinja

// expr is an expression. It is evaluated in a scope.
type expr interface {
	eval(r *run, s *scope) (Value, error)
}

// stmt is a statement.
type stmt interface {
	exec(r *run, s *scope) error
}

// The expressions. The field line is where an error is reported.
type (
	constExpr struct{ value Value }
	nameExpr  struct{ name string }
	listExpr  struct {
		items []expr
		tuple bool
	}
	dictExpr struct{ keys, values []expr }
	attrExpr struct {
		of   expr
		name string
		line int
	}
	itemExpr struct {
		of, index expr
		line      int
	}
	sliceExpr struct { // parts that are not there are nil
		of                expr
		start, stop, step expr
		line              int
	}
	callExpr struct {
		of   expr
		args callArgs
		line int
	}
	filterExpr struct {
		of   expr
		name string
		args callArgs
		line int
	}
	testExpr struct {
		of   expr
		name string
		args callArgs
		line int
	}
	unaryExpr struct {
		op   string // "-", "+" or "not"
		of   expr
		line int
	}
	binaryExpr struct {
		op          string
		left, right expr
		line        int
	}
	concatExpr struct{ parts []expr }
	logicExpr  struct {
		and         bool // otherwise or
		left, right expr
	}
	compareExpr struct { // first < second < third ...
		first expr
		rest  []comparison
		line  int
	}
	condExpr struct { // then if test else other
		test, then, other expr // other may be nil
	}
)

type comparison struct {
	op   string // ==, !=, <, <=, >, >=, in or "not in"
	with expr
}

// callArgs is what stands between the parentheses of a call.
type callArgs struct {
	positional []expr
	names      []string // of the keyword arguments
	named      []expr
	rest       expr // *rest, or nil
	restNamed  expr // **restNamed, or nil
}

// The statements.
type (
	textStmt  struct{ text string }
	printStmt struct {
		of   expr
		line int
	}
	block  []stmt
	ifStmt struct {
		tests []expr // of if and each elif
		lines []int  // where they are
		then  []block
		other block
	}
	forStmt struct {
		target      target
		over        expr
		filter      expr // or nil
		body, other block
		recursive   bool
		line        int
	}
	setStmt struct {
		target target
		value  expr
		line   int
	}
	setBlockStmt struct {
		target target
		filter expr // applied to captured, or nil
		body   block
		line   int
	}
	macroStmt struct {
		name  string
		macro *macroBody
	}
	callStmt struct { // {% call %}: the body is the macro that caller() calls
		call   *callExpr
		caller *macroBody
	}
	filterStmt struct {
		filter expr // applied to captured
		body   block
	}
	withStmt struct {
		targets []target
		values  []expr
		body    block
		line    int
	}
	scopeStmt    struct{ body block } // a block with variables of its own
	breakStmt    struct{}
	continueStmt struct{}
)

// macroBody is what a macro consists of.
type macroBody struct {
	name     string
	params   []string
	defaults []expr // of the last parameters
	body     block
	extra    bool // the body uses varargs
	named    bool // the body uses kwargs
	calls    bool // the body uses caller
}

// captured stands in a filter of a block for the text that the block gave.
type captured struct{}

// target is what is assigned to: one name, an attribute of a namespace, or
// several targets.
type target struct {
	name  string
	attr  string // of the namespace name, or ""
	parts []target
	many  bool
}
