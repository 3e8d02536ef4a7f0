// Package search looks for the placement of a model on a machine that a
// workload runs fastest on.
//
// In go a logical graph (as an outline), a machine, routing statistics and a
// workload; out comes a placement with its price, a bound below which no
// placement of the space can be, and the prices of the strategies that people
// name. docs/search-space.md says what the space is. The package prices and
// chooses; it never divides a graph itself.
//
// The objective is a closed form: over batches sampled from the routing
// statistics, the mean of the sum over the turns of a step (prologue, layers,
// epilogue) of the device that ends last. It is an integer and the same on any
// machine.
package search
