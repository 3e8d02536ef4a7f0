package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// help is what the help of a command says besides its flags.
type help struct {
	Examples []string
	// Exits are the exit codes that it may end with besides those of every
	// command: 0, 1 and 2.
	Exits []int
}

// helps has a row for every command, by its name without "moec".
var helps = map[string]help{
	"": {Examples: []string{
		`moec compile examples/mixtral.moe --gpus 4 --checkpoint examples/tiny-mixtral -o mixtral.plan`,
		`moec run mixtral.plan --checkpoint examples/tiny-mixtral --prompt "ROMEO:"`,
	}},
	"compile": {Examples: []string{
		`moec compile examples/mixtral.moe --gpus 4 -o mixtral.plan`,
		`moec compile examples/mixtral.moe --machine l4x8 --workload chat --routing power:1.2`,
		`moec compile examples/mixtral.moe --gpus 4 --checkpoint DIR --strategy ep`,
		`moec compile examples/mixtral.moe --print changed`,
		`moec compile examples/mixtral.moe --gpus 4 --dot place | moec svg > graph.svg`,
	}, Exits: []int{exitDescription, exitCheckpoint, exitPlacement, exitInterrupted}},
	"plan": {Examples: []string{
		`moec plan show mixtral.plan`,
		`moec plan svg mixtral.plan --overview -o mixtral.svg`,
		`moec plan sim mixtral.plan --sequences 64`,
	}},
	"plan show":   {Examples: []string{`moec plan show mixtral.plan`, `moec plan show mixtral.plan --steps`}, Exits: []int{exitPlan}},
	"plan dot":    {Examples: []string{`moec plan dot mixtral.plan -o mixtral.dot`, `moec plan dot mixtral.plan --overview --tokens 64`}, Exits: []int{exitPlan}},
	"plan svg":    {Examples: []string{`moec plan svg mixtral.plan -o mixtral.svg`, `moec plan svg mixtral.plan --overview --tokens 64 -o traffic.svg`}, Exits: []int{exitPlan}},
	"plan diff":   {Examples: []string{`moec plan diff before.plan after.plan`, `moec plan diff --text before.plan after.plan`}, Exits: []int{exitPlan, exitDiffers}},
	"plan verify": {Examples: []string{`moec plan verify mixtral.plan`}, Exits: []int{exitPlan}},
	"plan price": {Examples: []string{
		`moec plan price ep4 --of examples/mixtral.moe --gpus 4`,
		`moec plan price mine.json --of examples/mixtral.moe --gpus 4 --workload prefill --search hand`,
	}, Exits: []int{exitDescription, exitCheckpoint, exitPlacement}},
	"plan sim": {Examples: []string{
		`moec plan sim mixtral.plan --sequences 64 --context 2048`,
		`moec plan sim mixtral.plan --prompt 4096 --contention --trace step.json`,
		`moec plan sim mixtral.plan --machine l4x8 --routing power:1.2 --svg step.svg`,
	}, Exits: []int{exitPlan, exitPlacement}},
	"explain": {Examples: []string{`moec explain place mixtral.plan --of examples/mixtral.moe`}},
	"explain place": {Examples: []string{
		`moec explain place mixtral.plan --of examples/mixtral.moe`,
		`moec explain place mixtral.plan --of examples/mixtral.moe --why-not ep4`,
		`moec explain place mixtral.plan --of examples/mixtral.moe --layers 3 --workload latency`,
	}, Exits: []int{exitDescription, exitCheckpoint, exitPlan, exitPlacement}},
	"explain kernels": {Examples: []string{`moec explain kernels mixtral.plan`, `moec explain kernels mixtral.plan --arch sm_80,sm_90a`}, Exits: []int{exitPlan}},
	"kernels": {Examples: []string{
		`moec kernels mixtral.plan --arch sm_90a`,
		`moec kernels mixtral.plan --arch sm_80,sm_90a --cache images -o with-kernels.plan`,
	}, Exits: []int{exitPlan, exitDevices, exitInterrupted}},
	"run": {Examples: []string{
		`moec run mixtral.plan --checkpoint DIR --prompt "Once upon a time" --max-tokens 200`,
		`moec run mixtral.plan --checkpoint DIR --prompt "Once" --prompt "Twice" --temperature 0.8 --top-p 0.95 --seed 7`,
		`moec run mixtral.plan --weights random --prompt-tokens 128 --max-tokens 64`,
	}, Exits: running},
	"bench": {Examples: []string{
		`moec bench examples/mixtral.moe --gpus 1 --weights random --sequences 64 --tokens 64`,
		`moec bench examples/mixtral.moe --gpus 1 --weights random --batch 1,8 --set layers=24`,
	}, Exits: running},
	"profile": {Examples: []string{
		`moec profile examples/mixtral.moe --gpus 1 --weights random`,
		`moec profile mixtral.plan --weights random --apart --trace step.json`,
		`moec profile mixtral.plan --weights random --batch 1 --step-tokens 512 --prompt-tokens 0`,
	}, Exits: running},
	"logits": {Examples: []string{
		`moec logits mixtral.plan --checkpoint DIR --prompt-ids 1,2,3 -o out.safetensors`,
	}, Exits: running},
	"checkpoint":   {Examples: []string{`moec checkpoint examples/tiny-mixtral`}, Exits: []int{exitCheckpoint}},
	"check":        {Examples: []string{`moec check examples/mixtral.moe`, `moec check examples/mixtral.moe --checkpoint DIR`}, Exits: []int{exitDescription, exitCheckpoint}},
	"fmt":          {Examples: []string{`moec fmt mine.moe`, `moec fmt --list examples/mixtral.moe examples/olmoe.moe`}, Exits: []int{exitDescription}},
	"svg":          {Examples: []string{`moec compile examples/mixtral.moe --gpus 4 --dot place | moec svg > graph.svg`}},
	"ops":          {Examples: []string{`moec ops`, `moec ops topk`}},
	"passes":       {Examples: []string{`moec passes`}},
	"strategies":   {Examples: []string{`moec strategies`}},
	"searchers":    {Examples: []string{`moec searchers`}},
	"workloads":    {Examples: []string{`moec workloads`}},
	"machine":      {Examples: []string{`moec machine`, `moec machine h200x4`, `moec machine detect -o here.json`}, Exits: []int{exitPlacement}},
	"machine list": {Examples: []string{`moec machine list`}},
	"machine show": {Examples: []string{`moec machine show h200x4`, `moec machine show ./here.json`}, Exits: []int{exitPlacement}},
	"machine detect": {Examples: []string{
		`moec machine detect -o here.json`,
		`moec compile examples/mixtral.moe --machine ./here.json`,
	}, Exits: []int{exitDevices}},
	"calibrate": {Examples: []string{
		`moec machine detect -o here.json`,
		`moec calibrate --machine ./here.json -o calibrated.json`,
		`moec calibrate --machine h200x8 --backend cuda -o mine.json`,
	}, Exits: []int{exitPlacement, exitDevices, exitInterrupted}},
	"version":    {Examples: []string{`moec version`}},
	"exit-codes": {Examples: []string{`moec help exit-codes`}},
	"help":       {Examples: []string{`moec help plan sim`}},
	"completion": {Examples: []string{`moec completion bash > moec.bash`}},

	"completion bash":       {Examples: []string{`moec completion bash > moec.bash`}},
	"completion zsh":        {Examples: []string{`moec completion zsh > _moec`}},
	"completion fish":       {Examples: []string{`moec completion fish > moec.fish`}},
	"completion powershell": {Examples: []string{`moec completion powershell > moec.ps1`}},
}

// running are the exit codes of what runs a plan or a description.
var running = []int{exitDescription, exitCheckpoint, exitPlan, exitPlacement, exitDevices, exitInterrupted}

// exitsNote is the key under which a command has the text of its exit codes.
const exitsNote = "exits"

// addHelp completes the help of all commands, those of the library included.
func addHelp(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	root.SetUsageTemplate(strings.TrimRight(root.UsageTemplate(), "\n") + `{{with index .Annotations "` + exitsNote + `"}}

Exit codes besides 0, 1 and 2, which "moec help exit-codes" lists:
{{.}}{{end}}
`)
	for _, c := range commandsBelow(root) {
		h := helps[shortPath(c)]
		c.Example = "  " + strings.Join(h.Examples, "\n  ")
		if len(h.Exits) > 0 {
			c.Annotations = map[string]string{exitsNote: exitsText(h.Exits)}
		}
	}
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Short = "print the help of a command or a topic"
			c.Long = "Help prints what \"moec COMMAND --help\" does, and topics that are no commands."
		case "completion":
			c.Short = "print a script that completes moec's commands and flags in a shell"
			c.Long = "Completion prints a script for a shell. The help of each shell says where to\nput it."
			for _, shell := range c.Commands() {
				shell.Short = "print the script for " + shell.Name()
			}
		}
	}
}

// commandsBelow lists a command and all below it.
func commandsBelow(c *cobra.Command) []*cobra.Command {
	list := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		list = append(list, commandsBelow(sub)...)
	}
	return list
}

// shortPath is a command's name without "moec".
func shortPath(c *cobra.Command) string {
	return strings.TrimPrefix(strings.TrimPrefix(c.CommandPath(), c.Root().Name()), " ")
}

// exitsText lists exit codes and what they mean.
func exitsText(codes []int) string {
	var lines []string
	for _, c := range exitCodes {
		for _, want := range codes {
			if c.Code == want {
				lines = append(lines, fmt.Sprintf("  %3d  %s", c.Code, c.Doc))
			}
		}
	}
	return strings.Join(lines, "\n")
}
