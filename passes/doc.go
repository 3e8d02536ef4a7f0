// Package passes turns the graph of a model into the graph that devices run.
//
// In goes the logical graph of a description and a placement, out comes a
// placed graph with the same bits. A pass changes a graph in place; it never
// reads weights and never asks what machine it runs on.
package passes
