package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"moec/compiler"
	"moec/planner/plan"
	"moec/runtime/checkpoint"
	"moec/runtime/tokenizer"
	"moec/runtime/weights"
)

// session is a plan, the weights for it and what decodes its tokens.
type session struct {
	plan   *plan.Plan
	source weights.Source
	model  *model
	files  *checkpoint.Checkpoint // nil with random weights
}

func (s *session) close() {
	if s.files != nil {
		s.files.Close()
	}
}

func numbered(name string, i int) string { return fmt.Sprintf("%s.%d", name, i) }

// open reads or makes the plan and finds the weights, and checks that they
// belong together, before any weight is read.
func (a *app) open(ctx context.Context, path string, f *loadFlags) (*session, error) {
	s := &session{model: &model{}}
	switch {
	case f.weights != "" && f.weights != "random":
		return nil, failf(exitUsage, "--weights %q: want random, or --checkpoint DIR instead", f.weights)
	case f.weights == "random":
		s.source = weights.Random{Seed: f.seed}
	case f.checkpoint == "":
		return nil, failf(exitUsage, "no weights: give --checkpoint DIR or --weights random")
	}
	if f.checkpoint != "" {
		if err := s.openCheckpoint(f.checkpoint); err != nil {
			return nil, err
		}
		if s.source == nil {
			s.source = weights.Checkpoint{Tensors: s.files}
		}
	}
	if err := a.choosePlan(ctx, path, f, s); err != nil {
		s.close()
		return nil, err
	}
	a.decodes = s.model.tokens != nil
	return s, nil
}

// choosePlan reads the plan, or compiles the description.
func (a *app) choosePlan(ctx context.Context, path string, f *loadFlags, s *session) (err error) {
	if strings.HasSuffix(path, ".moe") {
		c, err := a.compile(ctx, path, &f.compileFlags)
		if err != nil {
			return err
		}
		s.plan = c.Plan
		return nil
	}
	if s.plan, err = readPlan(path); err != nil {
		return err
	}
	if s.files != nil {
		return matchCheckpoint(path, s.plan, s.files)
	}
	return nil
}

// openCheckpoint opens the directory, its tokenizer and its generation
// settings.
func (s *session) openCheckpoint(dir string) error {
	files, err := checkpoint.Open(dir)
	if err != nil {
		return fail(exitCheckpoint, err)
	}
	s.files = files
	s.model = &model{dir: dir, generates: files.Generation()}
	path := filepath.Join(dir, "tokenizer.json")
	if _, err := os.Stat(path); err == nil {
		if s.model.tokens, err = tokenizer.Load(path); err != nil {
			return fail(exitCheckpoint, err)
		}
	}
	return nil
}

// loadError gives errors of loading their exit code.
func loadError(err error) error {
	var c *checkpoint.Error
	var done coded
	switch {
	case errors.As(err, &done):
		return err
	case errors.As(err, &c):
		return fail(exitCheckpoint, err)
	}
	return fail(exitDevices, err)
}

// matchCheckpoint checks that a plan was made for the checkpoint's model:
// every tensor that it reads is there with the shape and type it expects, and
// the settings that it was made with are those of config.json.
func matchCheckpoint(path string, p *plan.Plan, files *checkpoint.Checkpoint) error {
	for _, w := range p.Weights {
		for _, part := range w.Parts {
			for i := range w.Layers.Len() {
				if err := matchPart(path, w, part, w.Layers.First+i, files); err != nil {
					return err
				}
			}
		}
	}
	return matchBindings(path, p, files)
}

func matchPart(path string, w plan.Weight, part plan.Part, layer int, files *checkpoint.Checkpoint) error {
	experts := part.Experts
	if !part.Source.PerExpert() {
		experts = []int{0}
	}
	for _, e := range experts {
		key := part.Source.KeyFor(layer, e)
		info, ok := files.Tensor(key)
		if !ok {
			return otherModel(path, files, fmt.Sprintf("tensor %s", key), "none")
		}
		if d := compiler.StoredType(info.DType); d != w.DType || !sameShape(part.Source.Stored, info.Shape) {
			return otherModel(path, files, fmt.Sprintf("%s as %s %v", key, w.DType, part.Source.Stored), fmt.Sprintf("%s %v", strings.ToLower(info.DType), info.Shape))
		}
	}
	return nil
}

func otherModel(path string, files *checkpoint.Checkpoint, need, have string) error {
	return fail(exitPlan, fmt.Errorf("%s: %w than the checkpoint in %s: need %s, have %s; compile a plan with --checkpoint", path, plan.ErrOtherModel, files.Dir(), need, have))
}

func sameShape(a []int, b []int64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if int64(a[i]) != b[i] {
			return false
		}
	}
	return true
}

// matchBindings compares the settings that a plan was made with, where they
// came from config.json, with the checkpoint's.
func matchBindings(path string, p *plan.Plan, files *checkpoint.Checkpoint) error {
	for _, b := range p.Model.Bindings {
		v, ok := files.Config().Lookup(b.From)
		if !ok || v.IsNull() {
			continue // not from config.json, or spelled otherwise there
		}
		if !sameSetting(b.Value, v) {
			return otherModel(path, files, fmt.Sprintf("%s = %s", b.From, b.Value), v.String())
		}
	}
	return nil
}

// sameSetting compares numbers and truth values; others (names of types,
// lists) show in the tensors.
func sameSetting(value string, v checkpoint.Value) bool {
	if have, ok := v.Float(); ok {
		need, err := strconv.ParseFloat(value, 64)
		return err != nil || need == have
	}
	if have, ok := v.Bool(); ok {
		need, err := strconv.ParseBool(value)
		return err != nil || need == have
	}
	return true
}
