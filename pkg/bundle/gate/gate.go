// Package gate evaluates the health expressions of a bundle's policy: CEL over one object, bounded in time and memory.
//
// The object is the variable object, as the API server shows it. An expression is a bool; optional fields are written object.?status.?phase.orValue("").
// There is nothing else in an expression's reach: no other object, no clock, no network. What cannot be evaluated – a field that is not there yet – is
// not ready. Messages never hold what an object holds.
package gate

import (
	"errors"
	"fmt"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// The bounds of one expression. Compiling is bounded by length and depth; a cost is about the work of one step.
const (
	maxDepth = 64
	maxCost  = 200_000
)

// Gate says how an object does. It may be used concurrently. The zero value is useless: Compile makes one.
type Gate struct{ ready, failed cel.Program }

// Answer is what a Gate says.
type Answer int

// The answers.
const (
	Waiting Answer = iota
	Ready
	Failed
)

var environment = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(cel.Variable("object", cel.DynType), cel.OptionalTypes(), cel.ParserRecursionLimit(maxDepth),
		cel.ParserExpressionSizeLimit(bundle.MaxExpression), cel.ClearMacros(), cel.Macros(cel.HasMacro, cel.AllMacro, cel.ExistsMacro, cel.ExistsOneMacro))
})

// Compile prepares a rule. Its errors are for whoever wrote the expression.
func Compile(rule bundle.HealthRule) (*Gate, error) {
	var g Gate
	var err error
	if g.ready, err = compile("ready", rule.Ready); err != nil {
		return nil, err
	}
	if rule.Failed != "" {
		if g.failed, err = compile("failed", rule.Failed); err != nil {
			return nil, err
		}
	}
	return &g, nil
}

func compile(name, expression string) (cel.Program, error) {
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("health: %w", err)
	}
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		return nil, fmt.Errorf("health: %s: %w", name, issues.Err())
	}
	if t := ast.OutputType(); t != cel.BoolType && t != cel.DynType {
		return nil, fmt.Errorf("health: %s: it gives a %s, want a bool", name, t)
	}
	program, err := env.Program(ast, cel.CostLimit(maxCost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, fmt.Errorf("health: %s: %w", name, err)
	}
	return program, nil
}

// Judge says how the object does and, unless it is Ready, why in words that tell nothing of what it holds.
func (g *Gate) Judge(object map[string]any) (Answer, string) {
	if g.failed != nil {
		if is, _ := evaluate(g.failed, object); is {
			return Failed, "the policy's expression says that it failed"
		}
	}
	is, err := evaluate(g.ready, object)
	switch {
	case err != nil:
		return Waiting, err.Error()
	case !is:
		return Waiting, "the policy's expression does not call it ready yet"
	}
	return Ready, ""
}

var errNotYet = errors.New("the policy's expression cannot be evaluated on it: a field is missing or of another type, or it takes too long")

func evaluate(program cel.Program, object map[string]any) (bool, error) {
	value, _, err := program.Eval(map[string]any{"object": object})
	if err != nil { // its words may hold values
		return false, errNotYet
	}
	is, ok := value.(types.Bool)
	if !ok {
		return false, errNotYet
	}
	return bool(is), nil
}
