package cuda

import (
	"context"
	"runtime"

	"moec/codegen"
	"moec/codegen/nvcc"
)

// compile makes the images of the plan's kernels for an architecture, most
// often out of the cache.
func (g *Program) compile(ctx context.Context, arch string) (*codegen.Code, [][]byte, error) {
	section, err := codegen.Section(g.plan, arch)
	if err != nil {
		return nil, nil, err
	}
	code, err := codegen.Generate(g.plan, section)
	if err != nil {
		return nil, nil, err
	}
	compiler, err := g.compiler(ctx)
	if err != nil {
		return nil, nil, err
	}
	results, err := code.Compile(ctx, compiler, runtime.GOMAXPROCS(0), g.options.Compiled)
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
