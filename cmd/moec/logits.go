package main

import (
	"encoding/binary"
	"math"

	"github.com/spf13/cobra"

	"moec/runtime/checkpoint"
	"moec/runtime/generate"
)

func logitsCommand(a *app) *cobra.Command {
	var load loadFlags
	var prompt promptFlags
	var out string
	c := &cobra.Command{Use: "logits PLAN|FILE.moe", Short: "write the logits of every position of prompts to a safetensors file, as f32", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.logits(c, args[0], &load, &prompt, out)
		}}
	load.add(c)
	c.Flags().StringArrayVarP(&prompt.prompts, "prompt", "p", nil, "`TEXT` of a prompt; may be given several times")
	c.Flags().StringArrayVar(&prompt.ids, "prompt-ids", nil, "token `IDS` of a prompt, with commas between; may be given several times")
	c.Flags().IntVar(&prompt.tokens, "prompt-tokens", 0, "a prompt of this many made-up tokens")
	c.Flags().StringVarP(&out, "output", "o", "logits.safetensors", "`FILE` to write: tensors logits.N [positions, vocabulary] and tokens.N, for prompt N")
	return c
}

func (a *app) logits(c *cobra.Command, path string, load *loadFlags, prompt *promptFlags, out string) error {
	s, err := a.open(c.Context(), path, load)
	if err != nil {
		return err
	}
	defer s.close()
	prompt.maxTokens = 1
	requests, err := prompt.requests(c, s.model, s.plan.Model.Vocab)
	if err != nil {
		return err
	}
	program, err := a.load(c.Context(), s, load)
	if err != nil {
		return err
	}
	defer program.Close()
	prompts := make([][]int, len(requests))
	for i, r := range requests {
		prompts[i] = r.Prompt
	}
	rows, err := generate.Logits(c.Context(), program, s.plan, prompts)
	if err != nil {
		return err
	}
	if err := checkpoint.Write(out, logitTensors(prompts, rows)); err != nil {
		return err
	}
	total := 0
	for _, p := range prompts {
		total += len(p)
	}
	if a.json {
		return a.printJSON(map[string]any{"file": out, "prompts": len(prompts), "positions": total, "vocab": s.plan.Model.Vocab})
	}
	return a.printf("%s: logits of %d positions, vocabulary %d\n", out, total, s.plan.Model.Vocab)
}

// logitTensors packs the results for a file.
func logitTensors(prompts [][]int, rows [][]float32) []checkpoint.Tensor {
	var list []checkpoint.Tensor
	for i, p := range prompts {
		data := make([]byte, 4*len(rows[i]))
		for j, v := range rows[i] {
			binary.LittleEndian.PutUint32(data[4*j:], math.Float32bits(v))
		}
		ids := make([]byte, 4*len(p))
		for j, id := range p {
			binary.LittleEndian.PutUint32(ids[4*j:], uint32(id))
		}
		n := int64(len(p))
		list = append(list,
			checkpoint.Tensor{Name: numbered("logits", i), DType: "F32", Shape: []int64{n, int64(len(rows[i])) / n}, Data: data},
			checkpoint.Tensor{Name: numbered("tokens", i), DType: "I32", Shape: []int64{n}, Data: ids})
	}
	return list
}
