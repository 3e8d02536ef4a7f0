package cuda

import (
	"context"
	"runtime"

	"moec/codegen"
	"moec/codegen/nvcc"
)

// compile makes the images of the plan's kernels, most often out of the cache.
func (g *Program) compile(ctx context.Context) (*codegen.Code, [][]byte, error) {
	code, err := codegen.Generate(g.plan, g.section)
	if err != nil {
		return nil, nil, err
	}
	compiler, err := g.compiler(ctx)
	if err != nil {
		return nil, nil, err
	}
	results, err := code.Compile(ctx, compiler, runtime.GOMAXPROCS(0), func(p nvcc.Progress) {
		if g.options.Compiled != nil {
			g.options.Compiled(p.Done, p.Total)
		}
	})
	if err != nil {
		return nil, nil, err
	}
	images := make([][]byte, len(results))
	for i, r := range results {
		images[i] = r.Image
	}
	return code, images, nil
}

// compiler returns a compiler that, without an nvcc, still finds what is
// cached.
func (g *Program) compiler(ctx context.Context) (*nvcc.Compiler, error) {
	o := nvcc.Options{CacheDir: g.options.Cache, Warn: g.options.Warn}
	if o.CacheDir == "" {
		dir, err := nvcc.DefaultCacheDir()
		if err != nil {
			return nil, err
		}
		o.CacheDir = dir
	}
	o.Toolchain, o.Missing = nvcc.Find(ctx, nvcc.DefaultSearch(g.options.Nvcc))
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nvcc.New(o), nil
}
