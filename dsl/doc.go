// Package dsl is the language that describes models: it turns a .moe file,
// and the config.json of a checkpoint if there is one, into a logical graph.
//
// In go source text, settings and a way to ask for the shapes of stored
// tensors; out come an ir.Graph or diagnostics, several for each file. The
// package reads no weights, knows no model family by name, and places nothing.
//
// Stages, in order: lex (tokens and their limits), split (statements and their
// bodies), grammar (one statement, by participle), resolve (names), build
// (settings, evaluation, lowering).
package dsl
